//! The writer thread and its mailbox of one frame: whoever draws never waits for the terminal.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

/// What the writer thread says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The frame was taken; the next one may come.
    Ready,
    /// The terminal is gone: the screen should leave, the study should not.
    Vanished,
}

/// The writer thread and its mailbox.
pub struct Writer {
    mailbox: Sender<Vec<u8>>,
    busy: Arc<AtomicBool>,
    vanished: Arc<AtomicBool>,
    reports: Receiver<Report>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (mailbox, mail) = bounded::<Vec<u8>>(1);
        let (report, reports) = unbounded();
        let busy = Arc::new(AtomicBool::new(false));
        let vanished = Arc::new(AtomicBool::new(false));
        let (is_busy, is_vanished) = (Arc::clone(&busy), Arc::clone(&vanished));
        thread::Builder::new()
            .name("screen-writer".to_owned())
            .spawn(move || {
                for frame in mail {
                    let written = write_all(&mut out, &frame);
                    if written.is_err() {
                        is_vanished.store(true, Ordering::Release);
                    }
                    is_busy.store(false, Ordering::Release);
                    // Nobody may be listening while the screen is being left.
                    let _ = report.send(if written.is_ok() {
                        Report::Ready
                    } else {
                        Report::Vanished
                    });
                    if written.is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self {
            mailbox,
            busy,
            vanished,
            reports,
        })
    }

    /// Whether a frame would be taken now.
    pub fn is_ready(&self) -> bool {
        !self.busy.load(Ordering::Acquire)
    }

    /// Whether the terminal is gone.
    pub fn has_vanished(&self) -> bool {
        self.vanished.load(Ordering::Acquire)
    }

    /// Hands a block of bytes over; `false` if the last one has not been taken yet.
    pub fn send(&self, bytes: Vec<u8>) -> bool {
        if self.busy.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.mailbox.try_send(bytes).is_ok()
    }

    /// What the thread says.
    pub fn reports(&self) -> &Receiver<Report> {
        &self.reports
    }
}

/// One call where the terminal takes all of it; what a non-blocking descriptor refuses is offered again.
pub(crate) fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => bytes = &bytes[taken..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone)]
    struct Slow(Arc<Mutex<Vec<usize>>>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.recv().ok();
            self.0.lock().unwrap().push(bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn while_the_writer_is_busy_nothing_is_queued_and_each_frame_is_one_write() {
        let (go, gate) = unbounded();
        let writes = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer::start(Slow(Arc::clone(&writes), gate)).unwrap();
        assert!(writer.send(vec![0; 10_000]));
        assert!(!writer.is_ready());
        assert!(!writer.send(vec![0; 7]));
        go.send(()).unwrap();
        assert_eq!(writer.reports().recv(), Ok(Report::Ready));
        assert!(writer.is_ready());
        assert!(writer.send(vec![0; 5]));
        go.send(()).unwrap();
        assert_eq!(writer.reports().recv(), Ok(Report::Ready));
        assert_eq!(*writes.lock().unwrap(), [10_000, 5]);
    }

    #[test]
    fn a_vanished_terminal_is_reported() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                // EIO, what a closed pseudo-terminal answers.
                Err(io::Error::from_raw_os_error(5))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let writer = Writer::start(Gone).unwrap();
        assert!(writer.send(vec![1]));
        assert_eq!(writer.reports().recv(), Ok(Report::Vanished));
        assert!(writer.has_vanished());
    }
}
