//! The recorder: a thread between the lab and the screen, so that neither a slow disk nor a slow screen stalls training.
//!
//! lab → bounded channel → recorder (stamp, append, flush) → screen. A record is written before it is shown. Notes of
//! the user come through the same channel as the lab's facts.

use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::Writer;
use crate::event::{Record, Said};

/// What the recorder tells the application.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// A fact with its place and time, which the file already has unless recording failed.
    Record(Record),
    /// The file can no longer be written, and why, in one sentence; the run goes on unrecorded. Said once.
    Failed(String),
}

/// The thread that records.
#[derive(Debug)]
pub struct Recorder(JoinHandle<Writer>);

impl Recorder {
    /// Starts to record until every sender of `entries` is gone. Whether anybody listens to `app` makes no difference.
    pub fn spawn(writer: Writer, entries: Receiver<Said>, app: Sender<Recorded>) -> Self {
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                let mut writer = writer;
                record(&mut writer, &entries, &app);
                writer
            })
            .expect("the system has room for one more thread");
        Self(thread)
    }

    /// Waits until everything is recorded, and gives the writer back.
    pub fn join(self) -> Writer {
        self.0.join().expect("the recorder does not panic")
    }
}

fn record(writer: &mut Writer, entries: &Receiver<Said>, app: &Sender<Recorded>) {
    let mut is_recording = true;
    // A screen that left is no reason to stop.
    let tell = |recorded| drop(app.send(recorded));
    loop {
        let waited = match writer.due().filter(|_| is_recording) {
            Some(due) => entries.recv_timeout(due),
            None => entries.recv().map_err(RecvTimeoutError::from),
        };
        let mut record = None;
        let written = match waited {
            Ok(Said::Fact(event)) => {
                let stamped = writer.stamp(event);
                let written = if is_recording {
                    writer.write(&stamped)
                } else {
                    Ok(())
                };
                record = Some(stamped);
                written
            }
            Ok(Said::Remark(text)) if is_recording => writer.comment(&text),
            Ok(Said::Remark(_)) => Ok(()),
            Err(RecvTimeoutError::Timeout) => writer.flush(),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if let Err(error) = written {
            // Later records would leave a gap, so none is written.
            is_recording = false;
            tell(Recorded::Failed(error.to_string()));
        }
        if let Some(record) = record {
            tell(Recorded::Record(record));
        }
    }
    if is_recording && let Err(error) = writer.flush() {
        tell(Recorded::Failed(error.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::session::{Session, sample};

    #[test]
    fn what_is_shown_is_what_is_saved_in_this_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let writer = Writer::create(&path, &sample::header()).unwrap();
        let (lab, entries) = crossbeam_channel::bounded(4);
        let (app, shown) = crossbeam_channel::unbounded();
        let recorder = Recorder::spawn(writer, entries, app);
        let user = lab.clone();
        for event in sample::events() {
            lab.send(Said::Fact(event)).unwrap();
        }
        lab.send(Said::Remark("restored".to_owned())).unwrap();
        let text = "a note".to_owned();
        user.send(Said::Fact(Event::NoteAdded { text })).unwrap();
        drop((lab, user));
        recorder.join();
        let shown: Vec<Record> = shown
            .iter()
            .map(|recorded| match recorded {
                Recorded::Record(record) => record,
                Recorded::Failed(problem) => panic!("{problem}"),
            })
            .collect();
        let session = Session::open(&path).unwrap();
        assert_eq!(session.records, shown);
        assert_eq!(session.comments[0].1, "restored");
    }

    #[test]
    fn a_screen_that_left_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let writer = Writer::create(&path, &sample::header()).unwrap();
        let (lab, entries) = crossbeam_channel::bounded(1);
        let (app, shown) = crossbeam_channel::bounded(1);
        drop(shown);
        let recorder = Recorder::spawn(writer, entries, app);
        for _ in 0..100 {
            lab.send(Said::Fact(Event::Paused)).unwrap();
        }
        drop(lab);
        recorder.join();
        assert_eq!(Session::open(&path).unwrap().records.len(), 100);
    }

    /// `/dev/full` refuses every write, as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_once_and_the_run_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let writer = Writer::create(&path, &sample::header()).unwrap().onto(
            std::fs::OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .unwrap(),
        );
        let (lab, entries) = crossbeam_channel::unbounded();
        let (app, shown) = crossbeam_channel::unbounded();
        for _ in 0..3 {
            lab.send(Said::Fact(Event::Paused)).unwrap();
        }
        drop(lab);
        Recorder::spawn(writer, entries, app).join();
        let shown: Vec<Recorded> = shown.iter().collect();
        assert_eq!(shown.len(), 4);
        assert!(matches!(&shown[0], Recorded::Failed(why) if why.contains("a.jsonl")));
        assert!(shown[1..].iter().all(|r| matches!(r, Recorded::Record(_))));
    }
}
