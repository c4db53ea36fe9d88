//! What the user asks for, done: studies begun, branches added, sessions opened, the play head moved.

use std::path::Path;

use anyhow::Result;
use crossbeam_channel::{Sender, unbounded};

use super::{Left, Show};
use crate::app::door::{self, Way};
use crate::app::gpu;
use crate::app::library::{Book, Library, built_in};
use crate::app::studio::{Studio, checked, settle};
use crate::cli::Ending;
use crate::event::Event;
use crate::session::{Follower, Presence, Session};
use crate::spec::{Branch, Command, Method, Stage, Study, Wish};
use crate::state::{Mode, State, Timeline};
use crate::ui::view::{Request, Screen, Seek};

impl Show {
    /// Shows a session from its beginning.
    pub(super) fn play(&mut self, session: Session, speed: f64, again: bool) {
        self.unrecorded = None;
        self.tolerated = session.tolerated();
        self.catalog = session.header.catalog;
        self.device = session.header.device;
        (self.watch, self.gpu) = (None, None);
        self.timeline = Timeline::replaying(session.records);
        self.timeline.set_speed(speed);
        self.timeline.set_looping(again);
        self.timeline.play();
        self.follower = None;
        self.view.screen = Screen::Live;
        self.view.candidate = None;
    }

    /// Shows a session that somebody else writes, read-only.
    pub(super) fn follow(&mut self, mut follower: Box<Follower>) -> Result<()> {
        self.catalog = follower.header().catalog.clone();
        self.device.clone_from(&follower.header().device);
        (self.watch, self.gpu) = (None, None);
        self.timeline = Timeline::following();
        for record in follower.poll()? {
            self.timeline.push(record);
        }
        self.unrecorded = None;
        self.tolerated = follower.tolerated();
        self.follower = Some(follower);
        self.view.screen = Screen::Live;
        self.view.candidate = None;
        Ok(())
    }

    pub(super) fn obey(&mut self, request: Request) -> Result<Option<Left>> {
        match request {
            Request::Start(study) => return Ok(self.begin(study)),
            Request::AddBranch { reference, branch } => self.add_branch(reference, branch),
            Request::Try {
                reference,
                method,
                severity,
            } => self.try_setting(reference, method, severity),
            Request::Sense { reference } => self.command(Command::Sense { reference }),
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
            // The loop has the terminal.
            Request::Suspend => {}
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

    /// Starts a study, here or in the CUDA program; what is in the way is said.
    pub(super) fn begin(&mut self, study: Study) -> Option<Left> {
        match self.start(study) {
            Ok(left) => left,
            Err(error) => {
                self.message = Some(format!("{error:#}"));
                // What is to be mended stands in the form.
                self.view.screen = Screen::Study;
                None
            }
        }
    }

    fn start(&mut self, mut study: Study) -> Result<Option<Left>> {
        if self.is_at_work() {
            anyhow::bail!("a study is running; s stops it, b adds a branch to it");
        }
        self.dismiss();
        let remark = match door::way(&study.device)? {
            Way::There(passage) => {
                let file = door::hand_over(&study)?;
                return Ok(Some(Left::There(passage, file)));
            }
            Way::Here { device, remark } => {
                study.device = device;
                remark
            }
        };
        let study = checked(settle(study)?, &self.lab)?;
        let (commands, listening) = unbounded();
        let studio = Studio::begin(study, &self.lab, None, self.means.clone(), listening)?;
        self.work(studio, commands);
        self.tolerated.extend(remark.clone());
        self.message = remark;
        Ok(None)
    }

    /// Shows a study of this process.
    pub(super) fn work(&mut self, studio: Studio, commands: Sender<Command>) {
        self.device.clone_from(&studio.study.study().device);
        self.gpu = None;
        self.watch = gpu::watch(&self.device);
        self.catalog = self.lab.clone();
        self.timeline = Timeline::following();
        self.unrecorded = None;
        self.tolerated.clear();
        self.demo = false;
        self.follower = None;
        self.studio = Some(studio);
        self.commands = Some(commands);
        self.pausing = false;
        self.view.screen = Screen::Live;
        self.view.candidate = None;
    }

    /// Queues a branch: the plan is stated at once, so that it is drawn as waiting.
    fn add_branch(&mut self, reference: u32, branch: Branch) {
        let Some(studio) = self.studio.as_ref().filter(|studio| !studio.is_done()) else {
            self.message = Some(
                "a branch needs the lab that made the study; this session is only read".to_owned(),
            );
            return;
        };
        // All that was ever planned counts, also where the picture is frozen at an earlier time.
        let state = State::fold(self.timeline.records());
        let mut networks: Vec<_> = state
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
        let Some(branches) = training.and_then(|training| branch.check(&self.lab, &training).ok())
        else {
            self.message = Some("the branch cannot run as it stands".to_owned());
            return;
        };
        for branch in branches {
            let network = studio
                .study
                .plan_branch(&self.lab, reference, &branch, &networks);
            networks.push(network.clone());
            studio.say(Event::BranchAdded {
                reference,
                branch: branch.clone(),
                network: network.clone(),
            });
            self.command(Command::AddBranch { branch, network });
        }
    }

    /// Asks the lab for a setting of the live knob; it takes its turn at the end of a step.
    fn try_setting(&mut self, reference: u32, method: Method, severity: u8) {
        let Some(studio) = self.studio.as_ref().filter(|studio| !studio.is_done()) else {
            self.message = Some(
                "the knob needs the lab that made the study; this session is only read".to_owned(),
            );
            return;
        };
        let asked = studio.study.study().references.get(reference as usize);
        let branch = Branch {
            stages: vec![Stage::Compress(method)],
            ..Branch::default()
        };
        let checked = asked.map(|asked| branch.check(&self.lab, &asked.training));
        let method = match checked.and_then(Result::ok).and_then(|mut all| all.pop()) {
            Some(Branch { mut stages, .. }) => match stages.pop() {
                Some(Stage::Compress(method)) => method,
                _ => return,
            },
            None => {
                self.message = Some("the setting cannot be tried as it stands".to_owned());
                return;
            }
        };
        self.command(Command::Try(Wish {
            reference,
            method,
            severity,
        }));
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
