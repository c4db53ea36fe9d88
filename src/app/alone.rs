//! A study that goes on without its screen: it says where it is saved, prints as `run` does, and takes signals.

use anyhow::{Result, anyhow};
use crossbeam_channel::{Receiver, Sender, select};
use signal_hook::consts::{SIGINT, SIGTERM, SIGTSTP};

use super::studio::Studio;
use crate::cli::Ending;
use crate::cli::progress::{Printer as _, Words};
use crate::event::{Event, Outcome};
use crate::session::Recorded;
use crate::spec::Command;
use crate::state::State;
use crate::ui::command_line::quote;

/// Why the session has holes, as the last word of the program.
pub(crate) fn unrecorded(problem: &str) -> anyhow::Error {
    anyhow!(
        "{problem}; the session ends where that happened, and `shrinklab run --resume` does the rest again"
    )
}

/// Sees a study to its end.
///
/// # Errors
/// When not all of it could be recorded.
pub(super) fn finish(
    studio: Studio,
    commands: Option<&Sender<Command>>,
    signals: &Receiver<i32>,
    state: State,
    mut failed: Option<String>,
) -> Result<Ending> {
    let path = studio.path.display().to_string();
    let quoted = quote(&path);
    let mut words = Words::going_on(state);
    words.say(&format!(
        "the study goes on here without its screen and is saved in {path}\n\
         `shrinklab attach {quoted}` shows it in another terminal; Ctrl-Z and `bg` give this one back, Ctrl-C stops it"
    ))?;
    let listening = studio.listen_only();
    let mut ending = Ending::Success;
    loop {
        select! {
            recv(listening.records) -> recorded => match recorded {
                Ok(Recorded::Record(record)) => {
                    if let Event::StudyEnded { outcome } = &record.event {
                        ending = match outcome {
                            Outcome::Completed => Ending::Success,
                            Outcome::Cancelled => Ending::Interrupted,
                            Outcome::Failed { .. } => Ending::Failure,
                        };
                    }
                    words.record(&record)?;
                }
                Ok(Recorded::Failed(problem)) => {
                    words.trouble(&problem)?;
                    failed = Some(problem);
                }
                Err(_) => break,
            },
            recv(signals) -> signal => match (signal, commands) {
                (Ok(SIGINT | SIGTERM), Some(commands)) => {
                    // A lab that is done takes no commands.
                    let _ = commands.send(Command::Stop);
                }
                (Ok(SIGTSTP), _) => signal_hook::low_level::emulate_default_handler(SIGTSTP)?,
                _ => {}
            },
        }
    }
    words.end()?;
    listening.close(failed.is_none());
    match failed {
        Some(problem) => Err(unrecorded(&problem)),
        None => Ok(ending),
    }
}
