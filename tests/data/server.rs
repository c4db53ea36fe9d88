//! A small HTTP server on loopback that answers as a test wants, even wrongly.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// The first byte of `Range: bytes=N-`.
    pub(crate) range_start: Option<usize>,
}

/// What is sent back.
#[derive(Clone)]
pub(crate) struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// Everything, with status 200.
    pub(crate) fn whole(bytes: &[u8]) -> Self {
        Self {
            head: format!("200 OK\r\nContent-Length: {}", bytes.len()),
            body: bytes.to_vec(),
        }
    }

    /// From a byte on, with status 206; everything where that is the first.
    pub(crate) fn part(bytes: &[u8], start: usize) -> Self {
        if start == 0 {
            return Self::whole(bytes);
        }
        Self {
            head: format!(
                "206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{}",
                bytes.len() - start,
                bytes.len() - 1,
                bytes.len()
            ),
            body: bytes[start..].to_vec(),
        }
    }

    /// A status without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            head: format!("{status} Status\r\nContent-Length: 0"),
            body: Vec::new(),
        }
    }

    /// The same promise, but the connection ends after so many bytes.
    pub(crate) fn cut_to(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }
}

/// Serves one request per connection until it is dropped.
pub(crate) struct Server {
    /// Its address, ending in a slash.
    pub(crate) base: String,
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn new(answer: impl Fn(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let requests = Arc::clone(&requests);
            let is_over = Arc::clone(&is_over);
            move || {
                for connection in listener.incoming() {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let connection = connection.unwrap();
                    // A client that hangs up early is not this server's trouble.
                    if let Some(request) = read(&connection) {
                        requests.lock().unwrap().push(request.clone());
                        let _ = send(connection, &answer(&request));
                    }
                }
            }
        });
        Self {
            base: format!("http://{address}/"),
            address,
            requests,
            is_over,
            thread: Some(thread),
        }
    }

    /// What was asked for so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread from waiting.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(connection: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next()?.ok()?;
    let mut request = Request {
        path: first.split(' ').nth(1)?.to_owned(),
        range_start: None,
    };
    for line in lines {
        let line = line.ok()?.to_ascii_lowercase();
        if line.is_empty() {
            return Some(request);
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            request.range_start = range.trim_end_matches('-').parse().ok();
        }
    }
    None
}

fn send(mut connection: TcpStream, answer: &Answer) -> std::io::Result<()> {
    write!(
        connection,
        "HTTP/1.1 {}\r\nConnection: close\r\n\r\n",
        answer.head
    )?;
    connection.write_all(&answer.body)?;
    connection.shutdown(std::net::Shutdown::Both)
}
