//! The screen at work: one wait for keys, facts, signals and the terminal, then one picture.
//!
//! Data draws at most ten times a second, a key at once, and a wait without anything to draw has no end: an idle screen
//! wakes up for nothing. When the terminal goes away the study goes on without it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, Sender, after, never, select};
use crossterm::event::Event as Input;
use ratatui::layout::Rect;

use super::alone;
use super::arrivals::{Keys, signals};
use super::door::Passage;
use super::gpu::Watch;
use super::library::{Library, built_in};
use super::studio::Studio;
use crate::catalog::Catalog;
use crate::cli::Ending;
use crate::event::Event;
use crate::lab;
use crate::lab::data::verify;
use crate::lab::run::Means;
use crate::session::{Follower, Presence, Recorded, Session};
use crate::spec::{Command, Study};
use crate::state::{Mode, State, Timeline};
use crate::ui::scene::{GpuUse, Scene};
use crate::ui::terminal::{Drawn, Report, Terminal};
use crate::ui::view::{Request, Screen, View};
use crate::ui::{self, form::Form};

mod wishes;

/// Time between two pictures while data flows.
const FRAME: Duration = Duration::from_millis(100);
/// How often a growing file is looked at: network file systems send no notice.
const POLL: Duration = Duration::from_millis(250);

/// What is said of a followed session that nobody writes and that has no end.
const INTERRUPTED: &str =
    "interrupted: nobody writes this session any more; `run --resume` goes on";

/// Where the facts come from when the screen opens.
pub(crate) enum Source {
    /// Nowhere yet: the form; on the very first start a recorded session plays behind it.
    Form,
    Replay {
        session: Box<Session>,
        speed: f64,
        again: bool,
    },
    Attach(Box<Follower>),
    Demo,
    /// A study that has been begun already.
    #[cfg(unix)]
    Begun(Box<Studio>, Sender<Command>),
}

/// Why the screen was left.
enum Left {
    /// Nothing runs any more, or it was stopped.
    Done(Ending),
    /// The study shall finish without the screen.
    Alone,
    /// The CUDA program takes over, and begins the study in that file.
    There(Passage, PathBuf),
}

/// The screen with all that it shows.
pub(crate) struct Show {
    view: View,
    timeline: Timeline,
    catalog: Catalog,
    lab: Catalog,
    library: Library,
    data_notes: BTreeMap<String, String>,
    estimated: (Option<Study>, String),
    message: Option<String>,
    device: String,
    /// The GPU at work, and what was last read of it.
    watch: Option<Watch>,
    gpu: Option<GpuUse>,
    bell: bool,
    mono: bool,
    pausing: bool,
    /// Why the study at work is no longer recorded.
    unrecorded: Option<String>,
    /// What the file of the shown session had that was tolerated.
    tolerated: Vec<String>,
    means: Means,
    studio: Option<Studio>,
    commands: Option<Sender<Command>>,
    follower: Option<Box<Follower>>,
    /// Leave as soon as the study has ended.
    leaving: bool,
    /// What plays was recorded before and comes with the program.
    demo: bool,
    begun: Instant,
}

impl Show {
    /// Prepares the screen.
    ///
    /// # Errors
    /// When what is to be shown cannot be read.
    pub(crate) fn new(source: Source, means: Means, bell: bool) -> Result<Self> {
        let lab = lab::catalog();
        let library = Library::look();
        let mut show = Self {
            view: View::new(Form::new(&lab), Screen::Study),
            timeline: Timeline::following(),
            catalog: lab.clone(),
            data_notes: data_notes(&means),
            lab,
            estimated: (None, String::new()),
            message: None,
            device: "cpu".to_owned(),
            watch: None,
            gpu: None,
            bell,
            mono: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            pausing: false,
            unrecorded: None,
            tolerated: Vec::new(),
            means,
            studio: None,
            commands: None,
            follower: None,
            leaving: false,
            demo: false,
            begun: Instant::now(),
            library,
        };
        match source {
            // Nobody shall meet an empty screen.
            Source::Form if show.library.saved == 0 => {
                if let Some(session) = built_in().into_iter().next() {
                    show.play(session, 4.0, true);
                    show.view.screen = Screen::Study;
                    show.demo = true;
                }
            }
            Source::Form => {}
            Source::Replay {
                session,
                speed,
                again,
            } => show.play(*session, speed, again),
            Source::Demo => {
                if let Some(session) = built_in().into_iter().next() {
                    show.play(session, 4.0, true);
                }
            }
            Source::Attach(follower) => show.follow(follower)?,
            #[cfg(unix)]
            Source::Begun(studio, commands) => show.work(*studio, commands),
        }
        Ok(show)
    }

    /// Lets the form's study compute on a device; the remark is why it is another one than was asked for.
    pub(crate) fn compute_on(&mut self, device: &str, remark: Option<String>) {
        let form = Form::of(self.view.form.study().clone());
        self.view.form = form.on(device);
        self.message = remark;
    }

    /// Begins a study whose device is settled.
    pub(crate) fn begin_here(&mut self, study: Study) {
        // On a settled device no other program takes over.
        let _ = self.begin(study);
    }

    /// Shows until the user leaves.
    ///
    /// # Errors
    /// When there is no terminal.
    pub(crate) fn run(mut self) -> Result<Ending> {
        let signals = signals()?;
        let mut terminal = Terminal::enter()
            .context("the lab needs a terminal; `shrinklab run` works without one")?;
        let keys = Keys::listen()?;
        let left = self.watch(&mut terminal, &keys.found, &signals);
        drop((keys, terminal));
        match left? {
            Left::Done(ending) => {
                self.dismiss();
                match &self.unrecorded {
                    Some(problem) => Err(alone::unrecorded(problem)),
                    None => Ok(ending),
                }
            }
            Left::There(passage, study) => {
                self.dismiss();
                let mut arguments: Vec<OsString> = vec!["--begin".into(), study.clone().into()];
                if let Some(folder) = self.means.folders.first() {
                    arguments.extend(["--data-dir".into(), folder.into()]);
                }
                if !self.bell {
                    arguments.push("--no-bell".into());
                }
                let error = passage.go(arguments);
                // Nobody begins it.
                let _ = std::fs::remove_file(study);
                Err(error)
            }
            Left::Alone => {
                self.finish();
                let Some(studio) = self.studio.take() else {
                    return Ok(Ending::Success);
                };
                let state = State::fold(self.timeline.records());
                let commands = self.commands.as_ref();
                alone::finish(studio, commands, &signals, state, self.unrecorded)
            }
        }
    }

    fn watch(
        &mut self,
        terminal: &mut Terminal,
        keys: &Receiver<Input>,
        signals: &Receiver<i32>,
    ) -> Result<Left> {
        let reports = terminal.reports();
        let mut size = Terminal::size()?;
        let mut drawn_at = Instant::now();
        // `Some(urgent)` when there is something to draw.
        let mut dirty = Some(true);
        loop {
            if let Some(urgent) = dirty
                && (urgent || drawn_at.elapsed() >= FRAME)
            {
                match self.draw(terminal, size) {
                    Drawn::Sent | Drawn::Unchanged => {
                        dirty = None;
                        drawn_at = Instant::now();
                    }
                    // Drawn when the writer reports that it is ready.
                    Drawn::Busy => dirty = Some(false),
                    Drawn::Vanished => return Ok(self.vanished()),
                }
            }
            let wake = self.next_wake(dirty.is_some(), drawn_at);
            let records = self
                .studio
                .as_ref()
                .map_or_else(never, |studio| studio.records.clone());
            let readings = self
                .watch
                .as_ref()
                .map_or_else(never, |watch| watch.readings.clone());
            let mut request = None;
            select! {
                recv(readings) -> reading => {
                    match reading {
                        Ok(reading) => self.gpu = Some(reading),
                        // The driver says no more.
                        Err(_) => (self.watch, self.gpu) = (None, None),
                    }
                    dirty = dirty.or(Some(false));
                }
                recv(keys) -> input => match input {
                    Ok(input) => {
                        request = self.input(input, &mut size);
                        dirty = Some(true);
                    }
                    // The reader ended: the terminal is gone.
                    Err(_) => return Ok(self.vanished()),
                },
                recv(records) -> first => {
                    let more = self.take(first.ok(), terminal);
                    if more && dirty.is_none() {
                        dirty = Some(false);
                    }
                }
                recv(reports) -> report => if report == Ok(Report::Vanished) {
                    return Ok(self.vanished());
                },
                recv(signals) -> signal => match self.signal(signal.unwrap_or_default(), terminal)? {
                    Some(left) => return Ok(left),
                    None => {
                        // A key at the same moment can swallow the event of a new size; the signal comes always.
                        size = Terminal::size().unwrap_or(size);
                        dirty = Some(true);
                    }
                },
                recv(wake) -> _ => {}
            }
            if self.timeline.advance(self.now()) | self.poll()? {
                dirty = dirty.or(Some(false));
            }
            match request {
                // As a shell's job: the terminal is given back, the process stops, and on `fg` all is drawn anew.
                Some(Request::Suspend) => {
                    stop(terminal)?;
                    size = Terminal::size().unwrap_or(size);
                    dirty = Some(true);
                }
                Some(request) => {
                    if let Some(left) = self.obey(request)? {
                        return Ok(left);
                    }
                }
                None => {}
            }
            if self.leaving && !self.is_at_work() {
                return Ok(Left::Done(Ending::Interrupted));
            }
        }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    /// When to wake up without being called: for a postponed picture, the next record of a replay, a growing file.
    fn next_wake(&self, is_dirty: bool, drawn_at: Instant) -> Receiver<Instant> {
        let mut wait = None;
        let mut by = |duration: Duration| {
            wait = Some(wait.map_or(duration, |least: Duration| least.min(duration)));
        };
        if is_dirty {
            by(FRAME.saturating_sub(drawn_at.elapsed()));
        }
        if self.timeline.mode() == Mode::Playing {
            by(FRAME);
        }
        if self.follower.is_some() {
            by(POLL);
        }
        wait.map_or_else(never, after)
    }

    fn draw(&mut self, terminal: &mut Terminal, size: (u16, u16)) -> Drawn {
        self.estimate();
        let title = ui::title(self.timeline.state());
        let (scene, view) = (self.scene(), &self.view);
        terminal.draw(size, &title, |area, buffer| {
            ui::paint(&scene, view, area, buffer);
        })
    }

    fn scene(&self) -> Scene<'_> {
        Scene {
            timeline: &self.timeline,
            catalog: &self.catalog,
            lab: &self.lab,
            sessions: &self.library.rows,
            estimate: &self.estimated.1,
            data_notes: &self.data_notes,
            message: self.message.as_deref(),
            unrecorded: self.unrecorded.as_deref(),
            tolerated: &self.tolerated,
            live: self.studio.is_some(),
            pausing: self.pausing,
            device: &self.device,
            gpu: self.gpu,
            bell: self.bell,
            mono: self.mono,
            demo: self.demo,
        }
    }

    /// The estimate of the form's study, made again when the study changes.
    fn estimate(&mut self) {
        let study = self.view.form.study();
        if self.view.screen == Screen::Study && self.estimated.0.as_ref() != Some(study) {
            self.estimated = (
                Some(study.clone()),
                lab::estimate::estimate(study, &self.lab),
            );
        }
    }

    fn input(&mut self, input: Input, size: &mut (u16, u16)) -> Option<Request> {
        self.message = None;
        // The view changes while the scene is read: it steps aside for a moment.
        let blank = View::new(Form::of(self.view.form.study().clone()), Screen::Study);
        let mut view = std::mem::replace(&mut self.view, blank);
        let scene = self.scene();
        let request = match input {
            Input::Key(key) => view.update(key, &scene),
            Input::Mouse(mouse) => view.mouse(mouse, Rect::new(0, 0, size.0, size.1), &scene),
            Input::Paste(text) => {
                view.paste(&text, &scene);
                None
            }
            Input::Resize(width, height) => {
                *size = (width, height);
                None
            }
            Input::FocusGained | Input::FocusLost => None,
        };
        self.view = view;
        request
    }

    /// Takes what was recorded; whether anything came.
    fn take(&mut self, first: Option<Recorded>, terminal: &mut Terminal) -> bool {
        let Some(first) = first else {
            // The lab and its recorder are done for good.
            self.studio = None;
            self.commands = None;
            (self.watch, self.gpu) = (None, None);
            return true;
        };
        let mut recorded = Some(first);
        while let Some(one) = recorded {
            match one {
                Recorded::Record(record) => {
                    match &record.event {
                        Event::StudyEnded { .. } if self.bell => terminal.ring(),
                        Event::Paused | Event::Resumed => self.pausing = false,
                        _ => {}
                    }
                    self.timeline.push(record);
                }
                Recorded::Failed(problem) => {
                    self.message = Some(format!("{problem}; the study goes on unrecorded"));
                    self.unrecorded = Some(problem);
                }
            }
            recorded = self
                .studio
                .as_ref()
                .and_then(|studio| studio.records.try_recv().ok());
        }
        true
    }

    /// Looks whether a followed file has grown.
    fn poll(&mut self) -> Result<bool> {
        let Some(follower) = &mut self.follower else {
            return Ok(false);
        };
        let before = std::mem::take(&mut self.tolerated);
        let records = follower.poll()?;
        let grew = !records.is_empty();
        for record in records {
            self.timeline.push(record);
        }
        self.tolerated = follower.tolerated();
        if !grew && follower.presence()? == Presence::Interrupted {
            self.tolerated.push(INTERRUPTED.to_owned());
        }
        let changed = self.tolerated != before;
        if changed
            && self
                .tolerated
                .last()
                .is_some_and(|last| last == INTERRUPTED)
        {
            self.message = Some(INTERRUPTED.to_owned());
        }
        Ok(grew || changed)
    }

    fn signal(&mut self, signal: i32, terminal: &mut Terminal) -> Result<Option<Left>> {
        use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
        match signal {
            SIGHUP => Ok(Some(self.vanished())),
            SIGINT | SIGTERM => {
                self.command(Command::Stop);
                self.finish();
                Ok(Some(Left::Done(Ending::Interrupted)))
            }
            SIGTSTP => {
                stop(terminal)?;
                Ok(None)
            }
            SIGCONT => {
                terminal.resume()?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn vanished(&mut self) -> Left {
        if self.is_at_work() {
            Left::Alone
        } else {
            Left::Done(Ending::Failure)
        }
    }

    /// Whether a study of this process is not done.
    fn is_at_work(&self) -> bool {
        let ended = self
            .timeline
            .records()
            .iter()
            .rev()
            .find(|record| !record.event.is_aside())
            .is_some_and(|record| matches!(record.event, Event::StudyEnded { .. }));
        self.studio.as_ref().is_some_and(|studio| !studio.is_done()) && !ended
    }

    fn command(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // A lab that is done takes no commands.
            let _ = commands.send(command);
        }
    }

    fn finish(&self) {
        self.command(Command::Finish);
    }

    /// Lets a lab that waits for another branch end, and waits until all is written.
    fn dismiss(&mut self) {
        self.finish();
        self.commands = None;
        if let Some(studio) = self.studio.take() {
            let listening = studio.listen_only();
            let records = listening.records.clone();
            listening.close(self.unrecorded.is_none());
            for recorded in records.try_iter() {
                if let Recorded::Failed(problem) = recorded {
                    self.unrecorded = Some(problem);
                }
            }
        }
    }
}

/// Gives the terminal back, stops the process as Ctrl-Z does, and takes the terminal again when it goes on.
fn stop(terminal: &mut Terminal) -> Result<()> {
    terminal.suspend()?;
    signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP)?;
    terminal.resume()?;
    Ok(())
}

/// What there is of each data set, in words.
fn data_notes(means: &Means) -> BTreeMap<String, String> {
    verify::list(&means.folders)
        .into_iter()
        .map(|listed| (listed.id.clone(), listed.to_string()))
        .collect()
}
