//! The screen at work: one wait for keys, facts, signals and the terminal, then one picture.
//!
//! Data draws at most ten times a second, a key at once, and a wait without anything to draw has no end: an idle screen
//! wakes up for nothing. When the terminal goes away the study goes on without it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, Sender, after, never, select, unbounded};
use crossterm::event::Event as Input;
use ratatui::layout::Rect;

use super::library::{Book, Library, built_in};
use super::studio::{Studio, settle};
use crate::catalog::Catalog;
use crate::cli::Ending;
use crate::event::{Event, Outcome};
use crate::lab;
use crate::lab::data::verify;
use crate::lab::run::Means;
use crate::session::Follower;
use crate::session::Recorded;
use crate::session::{Presence, Session};
use crate::spec::{Command, Study};
use crate::state::{Mode, Timeline};
use crate::ui::scene::Scene;
use crate::ui::terminal::{Drawn, Report, Terminal};
use crate::ui::view::{Request, Screen, Seek, View};
use crate::ui::{self, form::Form};

/// Time between two pictures while data flows.
const FRAME: Duration = Duration::from_millis(100);
/// How often a growing file is looked at: network file systems send no notice.
const POLL: Duration = Duration::from_millis(250);

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
    bell: bool,
    mono: bool,
    pausing: bool,
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
            bell,
            mono: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            pausing: false,
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

    /// Shows until the user leaves.
    ///
    /// # Errors
    /// When there is no terminal.
    pub(crate) fn run(mut self) -> Result<Ending> {
        let signals = signals()?;
        let mut terminal = Terminal::enter()
            .context("the lab needs a terminal; `shrinklab run` works without one")?;
        let keys = keys()?;
        let left = self.watch(&mut terminal, &keys, &signals);
        drop(terminal);
        match left? {
            Left::Done(ending) => {
                self.dismiss();
                Ok(ending)
            }
            Left::Alone => self.alone(&signals),
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
            let mut request = None;
            select! {
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
            if let Some(request) = request
                && let Some(left) = self.obey(request)?
            {
                return Ok(left);
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
            live: self.studio.is_some(),
            pausing: self.pausing,
            device: &self.device,
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
        let records = follower.poll()?;
        let grew = !records.is_empty();
        for record in records {
            self.timeline.push(record);
        }
        if !grew {
            let presence = follower.presence()?;
            let words = match presence {
                Presence::Interrupted => {
                    "interrupted: nobody writes this session any more; `run --resume` goes on"
                }
                Presence::Writing | Presence::Ended => return Ok(false),
            };
            if self.message.as_deref() != Some(words) {
                self.message = Some(words.to_owned());
                return Ok(true);
            }
        }
        Ok(grew)
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
                terminal.suspend()?;
                signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
                terminal.resume()?;
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
            .find(|record| !matches!(record.event, Event::NoteAdded { .. }))
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
            studio.listen_only().close();
        }
    }

    /// The study goes on without its screen.
    fn alone(mut self, signals: &Receiver<i32>) -> Result<Ending> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        self.finish();
        let commands = self.commands.take();
        let Some(studio) = self.studio.take() else {
            return Ok(Ending::Success);
        };
        let path = studio.path.display().to_string();
        let _ = crate::cli::print(&format!(
            "the study goes on without its screen and is saved in {path}\n\
             `shrinklab attach {path}` shows it again, in another terminal or after Ctrl-Z and `bg`; Ctrl-C stops it\n"
        ));
        let listening = studio.listen_only();
        let mut ending = Ending::Success;
        loop {
            select! {
                recv(listening.records) -> recorded => match recorded {
                    Ok(Recorded::Record(record)) => if let Event::StudyEnded { outcome } = record.event {
                        ending = match outcome {
                            Outcome::Completed => Ending::Success,
                            Outcome::Cancelled => Ending::Interrupted,
                            Outcome::Failed { .. } => Ending::Failure,
                        };
                    },
                    Ok(Recorded::Failed(_)) => {}
                    Err(_) => break,
                },
                recv(signals) -> signal => match (signal, &commands) {
                    (Ok(SIGINT | SIGTERM), Some(commands)) => {
                        let _ = commands.send(Command::Stop);
                    }
                    (Ok(signal), _) if signal == signal_hook::consts::SIGTSTP => {
                        signal_hook::low_level::emulate_default_handler(signal)?;
                    }
                    _ => {}
                },
            }
        }
        listening.close();
        Ok(ending)
    }

    /// Shows a session from its beginning.
    fn play(&mut self, session: Session, speed: f64, again: bool) {
        self.catalog = session.header.catalog;
        self.device = session.header.device;
        self.timeline = Timeline::replaying(session.records);
        self.timeline.set_speed(speed);
        self.timeline.set_looping(again);
        self.timeline.play();
        self.follower = None;
        self.view.screen = Screen::Live;
        self.view.candidate = None;
    }

    /// Shows a session that somebody else writes, read-only.
    fn follow(&mut self, mut follower: Box<Follower>) -> Result<()> {
        self.catalog = follower.header().catalog.clone();
        self.device.clone_from(&follower.header().device);
        self.timeline = Timeline::following();
        for record in follower.poll()? {
            self.timeline.push(record);
        }
        self.follower = Some(follower);
        self.view.screen = Screen::Live;
        self.view.candidate = None;
        Ok(())
    }

    fn obey(&mut self, request: Request) -> Result<Option<Left>> {
        match request {
            Request::Start(study) => {
                if let Err(error) = self.start(study) {
                    self.message = Some(format!("{error:#}"));
                }
            }
            Request::AddBranch { reference, branch } => self.add_branch(reference, branch),
            Request::Pause => {
                self.pausing = true;
                self.command(Command::Pause);
            }
            Request::Resume => {
                self.pausing = false;
                self.command(Command::Resume);
            }
            Request::Stop => self.command(Command::Stop),
            Request::Quit => return Ok(Some(Left::Done(Ending::Success))),
            Request::LeaveRunning => return Ok(Some(Left::Alone)),
            Request::StopAndQuit => {
                self.command(Command::Stop);
                self.finish();
                self.leaving = true;
                self.message = Some("stopping at the next step".to_owned());
            }
            Request::Freeze => match self.timeline.mode() {
                Mode::Following => self.timeline.pause(),
                Mode::Playing | Mode::Paused => self.timeline.follow(),
            },
            Request::PlayPause => match self.timeline.mode() {
                Mode::Playing => self.timeline.pause(),
                Mode::Following | Mode::Paused => self.timeline.play(),
            },
            Request::Seek(seek) => self.seek(seek),
            Request::Slower => self.timeline.slower(),
            Request::Faster => self.timeline.faster(),
            Request::ToggleLoop => self.timeline.set_looping(!self.timeline.is_looping()),
            Request::Note(text) => match &self.studio {
                Some(studio) => studio.say(Event::NoteAdded { text }),
                None => {
                    self.message = Some(
                        "a note needs a study that runs; this session is only read".to_owned(),
                    );
                }
            },
            Request::OpenSession(row) => {
                if let Err(error) = self.open(row) {
                    self.message = Some(format!("{error:#}"));
                }
            }
            Request::RefreshSessions => self.library = Library::look(),
            Request::SaveSpec(study) => self.message = Some(save_spec(&study)),
            Request::ToggleBell => self.bell = !self.bell,
        }
        Ok(None)
    }

    fn seek(&mut self, seek: Seek) {
        match seek {
            Seek::Records(by) => self.timeline.step(by),
            Seek::NextStage => self.timeline.next_stage(),
            Seek::PreviousStage => self.timeline.previous_stage(),
            Seek::NextNote => self.timeline.next_note(),
            Seek::PreviousNote => self.timeline.previous_note(),
            Seek::First => self.timeline.seek(0),
            Seek::Last if self.studio.is_some() || self.follower.is_some() => {
                self.timeline.follow();
            }
            Seek::Last => self.timeline.seek(self.timeline.len()),
        }
    }

    fn start(&mut self, study: Study) -> Result<()> {
        if self.is_at_work() {
            anyhow::bail!("a study is running; s stops it, b adds a branch to it");
        }
        self.dismiss();
        let study = settle(study)?.check(&self.lab).map_err(|errors| {
            anyhow::anyhow!(
                errors
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; ")
            )
        })?;
        let (commands, listening) = unbounded();
        let studio = Studio::begin(study, &self.lab, None, self.means.clone(), listening)?;
        self.work(studio, commands);
        Ok(())
    }

    /// Shows a study of this process.
    fn work(&mut self, studio: Studio, commands: Sender<Command>) {
        self.device.clone_from(&studio.study.study().device);
        self.catalog = self.lab.clone();
        self.timeline = Timeline::following();
        self.demo = false;
        self.follower = None;
        self.studio = Some(studio);
        self.commands = Some(commands);
        self.pausing = false;
        self.view.screen = Screen::Live;
        self.view.candidate = None;
    }

    /// Queues a branch: the plan is stated at once, so that it is drawn as waiting.
    fn add_branch(&mut self, reference: u32, branch: crate::spec::Branch) {
        let Some(studio) = self.studio.as_ref().filter(|studio| !studio.is_done()) else {
            self.message = Some(
                "a branch needs the lab that made the study; this session is only read".to_owned(),
            );
            return;
        };
        // All that was ever planned counts, also where the picture is frozen at an earlier time.
        let state = crate::state::State::fold(self.timeline.records());
        let networks: Vec<_> = state
            .networks
            .iter()
            .map(|network| network.plan.clone())
            .collect();
        let training = studio
            .study
            .study()
            .references
            .get(reference as usize)
            .map(|asked| asked.training.clone());
        let Some(branch) = training.and_then(|training| branch.check(&self.lab, &training).ok())
        else {
            self.message = Some("the branch cannot run as it stands".to_owned());
            return;
        };
        let network = studio
            .study
            .plan_branch(&self.lab, reference, &branch, &networks);
        studio.say(Event::BranchAdded {
            reference,
            branch: branch.clone(),
            network: network.clone(),
        });
        self.command(Command::AddBranch { branch, network });
    }

    fn open(&mut self, row: usize) -> Result<()> {
        if self.is_at_work() {
            anyhow::bail!("a study is running; s stops it, and then a session can be opened");
        }
        match self.library.books.get(row) {
            Some(Book::Saved(path)) => {
                let path = path.clone();
                self.dismiss();
                if Presence::of(&path)? == Presence::Writing {
                    return self.follow(Box::new(Follower::open(&path)?));
                }
                let session = Session::open(&path)?;
                self.play(session, 4.0, false);
            }
            Some(Book::BuiltIn(place)) => {
                let session = built_in().swap_remove(*place);
                self.dismiss();
                self.play(session, 4.0, false);
            }
            None => {}
        }
        Ok(())
    }
}

/// Saves the form's study beside the working directory, under a name that is free.
fn save_spec(study: &Study) -> String {
    let text = match toml::to_string_pretty(study) {
        Ok(text) => text,
        Err(error) => return format!("the study cannot be written as TOML: {error}"),
    };
    for number in 1.. {
        let name = if number == 1 {
            "study.toml".to_owned()
        } else {
            format!("study-{number}.toml")
        };
        let file = std::fs::File::create_new(Path::new(&name));
        match file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes())) {
            Ok(()) => return format!("saved as {name}; `shrinklab run {name}` does the same"),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return format!("{name}: {error}"),
        }
    }
    String::new()
}

/// What there is of each data set, in words.
fn data_notes(means: &Means) -> BTreeMap<String, String> {
    verify::list(&means.folders)
        .into_iter()
        .map(|listed| (listed.id.clone(), listed.to_string()))
        .collect()
}

/// Keys, clicks and sizes, read by a thread of their own. It ends when the terminal does.
fn keys() -> Result<Receiver<Input>> {
    let (found, keys) = unbounded();
    std::thread::Builder::new()
        .name("keys".into())
        .spawn(move || {
            while let Ok(input) = crossterm::event::read() {
                if found.send(input).is_err() {
                    break;
                }
            }
        })?;
    Ok(keys)
}

/// Signals that concern the screen.
fn signals() -> Result<Receiver<i32>> {
    use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGCONT, SIGWINCH])?;
    let (found, caught) = unbounded();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if found.send(signal).is_err() {
                    break;
                }
            }
        })?;
    Ok(caught)
}
