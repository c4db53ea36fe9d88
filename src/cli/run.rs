//! `shrinklab run`: a study without a screen.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, anyhow};
use crossbeam_channel::{Receiver, Sender, unbounded};

use super::progress::{Json, Printer, Quiet, Words};
use super::{Ending, RunArguments, ask};
use crate::app::alone::unrecorded;
use crate::app::door;
use crate::app::studio::{Studio, settle};
use crate::event::{Event, Outcome};
use crate::lab;
use crate::lab::cache::Cache;
use crate::lab::run::Means;
use crate::session::Recorded;
use crate::spec::Command;

/// Runs the study that the arguments describe, or goes on with one.
pub(crate) fn run(arguments: &RunArguments, folders: Vec<PathBuf>) -> Result<Ending> {
    let catalog = lab::catalog();
    let cache = if arguments.no_cache {
        Cache::of_one_study(None)
    } else {
        Cache::standard()
    };
    let means = Means {
        folders,
        cache,
        save: arguments.save.clone(),
    };
    let (commands, listening) = unbounded();
    let stops = stop_on_signals(&commands)?;
    let mut remark = None;
    let studio = match &arguments.resume {
        Some(file) => {
            door::way_on(file)?.take()?;
            Studio::resume(file, means, listening)?
        }
        None => {
            let mut study = ask::study(arguments, &catalog)?;
            (study.device, remark) = door::way(&study.device)?.take()?;
            let study = ask::checked(settle(study)?, &catalog)?;
            Studio::begin(
                study,
                &catalog,
                arguments.session.as_deref(),
                means,
                listening,
            )?
        }
    };
    // Without a screen nobody adds branches: the lab ends when its queue is empty.
    commands
        .send(Command::Finish)
        .map_err(|_| anyhow!("the lab ended before it began"))?;
    let mut printer: Box<dyn Printer> = if arguments.json {
        Box::new(Json)
    } else if arguments.quiet {
        Box::new(Quiet::default())
    } else {
        Box::new(Words::new(std::io::stdout().is_terminal()))
    };
    printer.begin(&studio.path)?;
    if let Some(remark) = &remark {
        printer.remark(remark)?;
    }
    let listening = studio.listen_only();
    let (outcome, failed) = listen(&listening.records, printer.as_mut())?;
    listening.close(failed.is_none());
    if let Some(problem) = failed {
        return Err(unrecorded(&problem));
    }
    Ok(match outcome {
        Some(Outcome::Completed) => Ending::Success,
        Some(Outcome::Cancelled) => Ending::Interrupted,
        _ if stops.load(Ordering::Relaxed) > 0 => Ending::Interrupted,
        _ => Ending::Failure,
    })
}

/// Prints what the recorder passes on until it ends. How the study ended, and why it is no longer recorded.
fn listen(
    records: &Receiver<Recorded>,
    printer: &mut dyn Printer,
) -> Result<(Option<Outcome>, Option<String>)> {
    let (mut outcome, mut failed) = (None, None);
    for recorded in records {
        match recorded {
            Recorded::Record(record) => {
                if let Event::StudyEnded { outcome: ended } = &record.event {
                    outcome = Some(ended.clone());
                }
                printer.record(&record)?;
            }
            Recorded::Failed(problem) => {
                printer.trouble(&problem)?;
                failed = Some(problem);
            }
        }
    }
    printer.end()?;
    Ok((outcome, failed))
}

/// The first Ctrl-C or termination stops the study at its next step; the third one ends the process at once.
/// A hang-up is ignored: the study goes on without its terminal.
fn stop_on_signals(commands: &Sender<Command>) -> Result<Arc<AtomicUsize>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let stops = Arc::new(AtomicUsize::new(0));
    let (counted, commands) = (Arc::clone(&stops), commands.clone());
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if signal == SIGHUP {
                    continue;
                }
                if counted.fetch_add(1, Ordering::Relaxed) >= 2 {
                    std::process::exit(i32::from(Ending::Interrupted.code()));
                }
                let _ = commands.send(Command::Stop);
            }
        })?;
    Ok(stops)
}
