//! Downloading one file over HTTP or HTTPS, resuming what an earlier try left.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use super::{Official, Progress, cannot};
use crate::lab::error::{Error, Result};

/// How often a transfer that broke off is taken up again without another byte having come.
const IDLE_TRIES: u32 = 2;
/// Bytes between two reports of progress.
const BLOCK: usize = 1 << 16;
/// A server that takes longer to connect, to answer or to send anything is given up.
const PATIENCE: Duration = Duration::from_mins(1);

/// Brings `part` to its full length. What it holds already is kept, if the server sends the rest only.
pub(super) fn download(
    address: &str,
    part: &Path,
    official: &Official,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<()> {
    let fail = |problem: String| Error::Fetch {
        address: address.to_owned(),
        problem,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(part)
        .map_err(|source| cannot("open", part, source))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            return Err(fail(format!(
                "another process is downloading it to {}; wait until that one is done",
                part.display()
            )));
        }
        // The error is that of a file system without locks.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    let agent = agent(address);
    let mut idle_tries = 0;
    loop {
        let have = continue_at(&mut file, official.bytes)
            .map_err(|source| cannot("write", part, source))?;
        progress(Progress::Downloading {
            file: &official.name,
            done: have,
            total: official.bytes,
        });
        if have == official.bytes {
            return Ok(());
        }
        let mut request = agent.get(address);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let interruption = match request.call() {
            Ok(response) => {
                let status = response.status();
                let continues = status.as_u16() == 206 && starts_at(&response, have);
                if !continues && matches!(status.as_u16(), 206 | 416) {
                    // Another range than asked for, or none: what is here is of no use to this server.
                    restart(&mut file).map_err(|source| cannot("write", part, source))?;
                    idle_tries += 1;
                    if idle_tries > IDLE_TRIES {
                        return Err(fail(format!(
                            "the server keeps answering {status} to a request for the whole file; try another --base"
                        )));
                    }
                    continue;
                }
                if !continues && status.as_u16() != 200 {
                    return Err(fail(format!(
                        "the server answered {status}; the file is needed there, or at another --base"
                    )));
                }
                if !continues {
                    restart(&mut file).map_err(|source| cannot("write", part, source))?;
                }
                let start = if continues { have } else { 0 };
                match copy(response, &mut file, start, official, progress) {
                    Ok(()) => None,
                    Err(Trouble::Transfer(error)) => Some(error.to_string()),
                    Err(Trouble::Disk(source)) => return Err(cannot("write", part, source)),
                    Err(Trouble::TooLong) => {
                        restart(&mut file).map_err(|source| cannot("write", part, source))?;
                        return Err(fail(format!(
                            "more than {} bytes came; exactly as many are needed, so they were thrown away",
                            official.bytes
                        )));
                    }
                }
            }
            Err(error) => Some(error.to_string()),
        };
        let now = file
            .metadata()
            .map_err(|source| cannot("read", part, source))?
            .len();
        if now > have {
            idle_tries = 0;
        } else {
            idle_tries += 1;
        }
        if now < official.bytes && idle_tries > IDLE_TRIES {
            return Err(fail(format!(
                "the transfer broke off after {now} of {} bytes ({}); the same command takes it up there again",
                official.bytes,
                interruption
                    .as_deref()
                    .unwrap_or("the server closed the connection")
            )));
        }
    }
}

/// The client. A server on this machine is never asked through a proxy.
fn agent(address: &str) -> ureq::Agent {
    let host = address.split_once("://").map_or("", |(_, rest)| rest);
    let is_local = ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .any(|local| host.starts_with(local));
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .user_agent(concat!("shrinklab/", env!("CARGO_PKG_VERSION")));
    if is_local {
        config.proxy(None).build().new_agent()
    } else {
        config.build().new_agent()
    }
}

/// The length so far, with the file ready to be continued there. A file that is too long begins anew.
fn continue_at(file: &mut File, most: u64) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    if length > most {
        restart(file)?;
        return Ok(0);
    }
    file.seek(SeekFrom::Start(length))
}

fn restart(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()
}

/// Whether a partial answer begins at that byte: `Content-Range: bytes 100-199/200`.
fn starts_at(response: &ureq::http::Response<ureq::Body>, byte: u64) -> bool {
    response
        .headers()
        .get("content-range")
        .and_then(|range| range.to_str().ok())
        .and_then(|range| range.strip_prefix("bytes "))
        .and_then(|range| range.split_once('-'))
        .is_some_and(|(first, _)| first.trim().parse() == Ok(byte))
}

/// Why a transfer ended early.
enum Trouble {
    Transfer(std::io::Error),
    Disk(std::io::Error),
    TooLong,
}

/// Appends the body to the file.
fn copy(
    response: ureq::http::Response<ureq::Body>,
    file: &mut File,
    start: u64,
    official: &Official,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Trouble> {
    let mut body = response.into_body().into_reader();
    let mut block = vec![0; BLOCK];
    let mut done = start;
    loop {
        let read = body.read(&mut block).map_err(Trouble::Transfer)?;
        if read == 0 {
            return Ok(());
        }
        done += read as u64;
        if done > official.bytes {
            return Err(Trouble::TooLong);
        }
        file.write_all(&block[..read]).map_err(Trouble::Disk)?;
        progress(Progress::Downloading {
            file: &official.name,
            done,
            total: official.bytes,
        });
    }
}
