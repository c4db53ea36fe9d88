//! A lab at work with its recorder: facts go through one funnel into the session file and on to whoever listens.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow, bail};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::energy::Metered;
use super::gpu::Meter;
use crate::catalog::Catalog;
use crate::event::{Event, Outcome, Said};
use crate::lab::cache::Cache;
use crate::lab::context::Sink;
use crate::lab::feasibility::{problems, spelled_out};
use crate::lab::run::Means;
use crate::lab::worker::{Job, Spoken, available_threads, spawn_into};
use crate::nn::parameters::pretrained;
use crate::session::{Header, Writer, store};
use crate::session::{Recorded, Recorder};
use crate::spec::{CheckedStudy, Command, SpecError, Study};

/// Facts that may wait for the recorder before the lab waits for it.
const WAITING: usize = 1024;

/// A lab at work with its recorder.
pub(crate) struct Studio {
    /// The session file.
    pub path: PathBuf,
    pub study: CheckedStudy,
    /// What was recorded, in order; ends when the lab and the user are done.
    pub records: Receiver<Recorded>,
    /// Where the user's notes enter, beside the lab's facts.
    notes: Sender<Said>,
    lab: JoinHandle<Outcome>,
    recorder: Recorder,
    /// What the lab keeps for this study alone.
    checkpoints: Option<Cache>,
}

/// The study as this machine will run it: threads and the weights at hand settled; [`super::door::way`] settles the
/// device.
///
/// # Errors
/// When a file of weights is not to be had, or another one lies there.
pub(crate) fn settle(mut study: Study) -> Result<Study> {
    study.threads.get_or_insert_with(available_threads);
    identify(&mut study)?;
    Ok(study)
}

/// The files of weights by their SHA-256.
///
/// # Errors
/// When one is not to be had, or another one lies there.
pub(crate) fn identify(study: &mut Study) -> Result<()> {
    let weights = study
        .references
        .iter_mut()
        .filter_map(|reference| reference.from.as_mut());
    for from in weights {
        let found =
            pretrained::digest(Path::new(&from.file)).map_err(|error| anyhow!("from: {error}"))?;
        match &from.sha256 {
            Some(wanted) if !wanted.eq_ignore_ascii_case(&found) => bail!(
                "from: {}: its SHA-256 is {found}, and the study asks for {wanted}",
                from.file
            ),
            _ => from.sha256 = Some(found),
        }
    }
    Ok(())
}

/// A settled study held against the catalog, the data sets and its files of weights, for whoever has no fields to put
/// errors beside.
///
/// # Errors
/// Everything that is wrong, in one line.
pub(crate) fn checked(study: Study, catalog: &Catalog) -> Result<CheckedStudy> {
    let all = |errors: &[SpecError]| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow!(errors.join("; "))
    };
    let study = spelled_out(study)
        .check(catalog)
        .map_err(|errors| all(&errors))?;
    match problems(&study) {
        errors if errors.is_empty() => Ok(study),
        errors => Err(all(&errors)),
    }
}

impl Studio {
    /// Starts a study in a new session file.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub(crate) fn begin(
        study: CheckedStudy,
        catalog: &Catalog,
        session: Option<&Path>,
        means: Means,
        commands: Receiver<Command>,
    ) -> Result<Self> {
        Self::begin_through(study, catalog, session, means, commands, |facts| {
            Box::new(facts)
        })
    }

    /// The same with something between the lab and its recorder.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(crate) fn begin_through(
        study: CheckedStudy,
        catalog: &Catalog,
        session: Option<&Path>,
        means: Means,
        commands: Receiver<Command>,
        between: impl FnOnce(Spoken) -> Box<dyn Sink + Send>,
    ) -> Result<Self> {
        let asked = study.study();
        let mut header = Header::new(
            &study,
            asked.threads.unwrap_or_else(available_threads),
            &asked.device,
            catalog,
        );
        header.uncached = means.cache.is_of_one_study();
        let writer = match session {
            Some(file) => {
                if let Some(folder) = file
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty())
                {
                    std::fs::create_dir_all(folder)
                        .with_context(|| folder.display().to_string())?;
                }
                Writer::create(file, &header)?
            }
            None => {
                let folder = store::default_folder().ok_or_else(|| {
                    anyhow!("no folder for sessions is known here; name a file with --session")
                })?;
                store::create(&folder, &header)?
            }
        };
        let means = bound(means, writer.path());
        if means.cache.is_of_one_study() {
            // What an earlier session of that name left is not this one's.
            let folder = means.cache.folder().unwrap_or(Path::new(""));
            let problem = || format!("{}: what lies there cannot be removed", folder.display());
            means.cache.clear().with_context(problem)?;
        }
        let job = Job {
            study,
            catalog: catalog.clone(),
            means,
            past: Vec::new(),
        };
        Self::start(writer, job, Vec::new(), commands, between)
    }

    /// Goes on with an interrupted session in the same file. What it holds already comes first in [`Self::records`].
    /// One that took nothing from the cache goes on without it, from its own checkpoints.
    ///
    /// # Errors
    /// When the file is no session, another process writes it, or it ended by itself.
    pub(crate) fn resume(
        file: &Path,
        mut means: Means,
        commands: Receiver<Command>,
    ) -> Result<Self> {
        let (writer, session) = Writer::resume(file)?;
        if let Some(newer) = session.left_out.first() {
            bail!(
                "{}, {newer}; a study goes on only where all of its question is understood",
                file.display()
            );
        }
        let ended = session
            .records
            .iter()
            .rev()
            .find_map(|record| match &record.event {
                Event::StudyEnded { outcome } => Some(outcome.clone()),
                aside if aside.is_aside() => None,
                _ => Some(Outcome::Cancelled),
            });
        if ended == Some(Outcome::Completed) {
            bail!(
                "{}: the study is complete; there is nothing to go on with",
                file.display()
            );
        }
        let catalog = session.header.catalog.clone();
        let asked = session.header.study.clone();
        let study = checked(asked, &catalog).map_err(|problems| {
            anyhow!(
                "{}: the study in the header cannot be run: {problems}",
                file.display()
            )
        })?;
        let past = session
            .records
            .iter()
            .map(|record| record.event.clone())
            .collect();
        if session.header.uncached {
            means.cache = Cache::of_one_study(None);
        }
        let job = Job {
            study,
            catalog,
            means: bound(means, file),
            past,
        };
        let earlier = session.records.into_iter().map(Recorded::Record).collect();
        Self::start(writer, job, earlier, commands, |facts| Box::new(facts))
    }

    fn start(
        writer: Writer,
        job: Job,
        earlier: Vec<Recorded>,
        commands: Receiver<Command>,
        between: impl FnOnce(Spoken) -> Box<dyn Sink + Send>,
    ) -> Result<Self> {
        let path = writer.path().to_owned();
        let study = job.study.clone();
        let cache = &job.means.cache;
        let checkpoints = cache.is_of_one_study().then(|| cache.clone());
        let (notes, said) = bounded(WAITING);
        let (app, records) = unbounded();
        let goes_on = !earlier.is_empty();
        for recorded in earlier {
            app.send(recorded)
                .map_err(|_| anyhow!("the program is at fault: nobody listens to the recorder"))?;
        }
        let recorder = Recorder::spawn(writer, said, app);
        if goes_on {
            notes
                .send(Said::Fact(Event::Continued))
                .map_err(|_| anyhow!("the recorder ended before it began"))?;
        }
        let mut facts = between(Spoken::to(notes.clone()));
        if let Some(meter) = Meter::of(&job.study.study().device) {
            facts = Box::new(Metered::over(facts, meter));
        }
        let lab = spawn_into(job, facts, commands).context("the lab's thread")?;
        Ok(Self {
            path,
            study,
            records,
            notes,
            lab,
            recorder,
            checkpoints,
        })
    }

    /// States a fact that a user made: a note, a branch.
    pub(crate) fn say(&self, event: Event) {
        // The recorder lives for as long as this sender; a failure to write is its own report.
        let _ = self.notes.send(Said::Fact(event));
    }

    /// Lets go of the user's end: the recorder ends when the lab does, and so does [`Self::records`].
    pub(crate) fn listen_only(self) -> Listening {
        drop(self.notes);
        Listening {
            records: self.records,
            lab: self.lab,
            recorder: self.recorder,
            checkpoints: self.checkpoints,
        }
    }

    /// Whether the lab's thread is done.
    pub(crate) fn is_done(&self) -> bool {
        self.lab.is_finished()
    }
}

/// A studio to which nobody adds anything.
pub(crate) struct Listening {
    pub records: Receiver<Recorded>,
    lab: JoinHandle<Outcome>,
    recorder: Recorder,
    checkpoints: Option<Cache>,
}

impl Listening {
    /// Waits for the last record. `is_whole` is whether all was recorded: a study that came to its end and can be read
    /// needs its checkpoints no more.
    pub(crate) fn close(self, is_whole: bool) {
        // A panic of the lab has been stated as the study's outcome.
        let outcome = self.lab.join();
        self.recorder.join();
        let ended = matches!(outcome, Ok(Outcome::Completed | Outcome::Failed { .. }));
        if let Some(checkpoints) = self.checkpoints.filter(|_| is_whole && ended) {
            // What cannot be removed is in nobody's way.
            let _ = checkpoints.clear();
        }
    }
}

/// The means with checkpoints kept beside the session, where nothing is to be shared with other studies.
fn bound(mut means: Means, session: &Path) -> Means {
    if means.cache.is_of_one_study() {
        let mut name = session.as_os_str().to_owned();
        name.push(".checkpoints");
        means.cache = Cache::of_one_study(Some(name.into()));
    }
    means
}
