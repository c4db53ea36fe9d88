//! The one door to the GPU: `--device cuda` and `--device auto` in a program that computes on the CPU.
//!
//! A program that was linked against NVIDIA's libraries does not start where they are not, so the engine for GPUs is a
//! program of its own. This one looks for it, asks the system's loader whether all that it needs is there, lends it the
//! libraries of a PyTorch where it is not, and then becomes that program: the same process, arguments and terminal.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use super::gpu;
use crate::nn::device::HAS_CUDA;
use crate::session::Follower;
use crate::spec::{Study, is_device};

pub(crate) mod libraries;
mod python;

use libraries::Libraries;

/// The program that computes on GPUs.
pub(crate) const PROGRAM: &str = "shrinklab-cuda";

/// Says to a program that it was started by this door, so that it starts no other.
const OPENED: &str = "SHRINKLAB_DOOR_OPENED";

/// How CUDA numbers the cards: by itself the fastest first, else as `nvidia-smi` does.
const ORDER: &str = "CUDA_DEVICE_ORDER";

/// The way out that every refusal names.
const WAY_OUT: &str = "--device cpu works without a GPU";

/// Where a study computes.
pub(crate) enum Way {
    /// In this program, on `cpu` or `cuda:N`; the remark says why `auto` found no GPU.
    Here {
        device: String,
        remark: Option<String>,
    },
    /// In the CUDA program.
    There(Passage),
}

impl Way {
    /// Stays, with the device and the remark, or becomes the CUDA program with the arguments of this process.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn take(self) -> Result<(String, Option<String>)> {
        match self {
            Self::Here { device, remark } => Ok((device, remark)),
            Self::There(passage) => Err(passage.go(std::env::args_os().skip(1))),
        }
    }
}

/// The CUDA program, with all that it needs.
#[derive(Debug)]
pub(crate) struct Passage {
    program: PathBuf,
    /// Where the loader shall look beside where it looks anyway.
    libraries: Option<OsString>,
}

impl Passage {
    /// Becomes the CUDA program; comes back only when the system refuses.
    pub(crate) fn go(&self, arguments: impl IntoIterator<Item = OsString>) -> anyhow::Error {
        let mut command = std::process::Command::new(&self.program);
        command.args(arguments).env(OPENED, "1");
        if std::env::var_os(ORDER).is_none() {
            command.env(ORDER, "PCI_BUS_ID");
        }
        if let Some(folders) = &self.libraries {
            command.env(libraries::VARIABLE, folders);
        }
        let error = replace(command);
        anyhow!("{}: {error}; {WAY_OUT}", self.program.display())
    }
}

#[cfg(unix)]
fn replace(mut command: std::process::Command) -> std::io::Error {
    std::os::unix::process::CommandExt::exec(&mut command)
}

#[cfg(not(unix))]
fn replace(mut command: std::process::Command) -> std::io::Error {
    // Without a call that replaces the process: this one waits, and ends as the other did.
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

/// Where a study on that device computes. What is no device at all stays as it is, for the study's check to refuse.
///
/// # Errors
/// When a GPU is asked for and there is none to be had, in one sentence.
pub(crate) fn way(device: &str) -> Result<Way> {
    find(device).map_err(|problem| anyhow!("{problem}; {WAY_OUT}"))
}

/// Where an interrupted session goes on: on the kind of device that it began on.
///
/// # Errors
/// When it cannot be read, or began on a GPU and there is none to be had.
pub(crate) fn way_on(session: &Path) -> Result<Way> {
    let device = Follower::open(session)?.header().device.clone();
    if HAS_CUDA {
        // Which GPU it was, its header says.
        return Ok(Way::Here {
            device,
            remark: None,
        });
    }
    find(&device).map_err(|problem| {
        anyhow!(
            "{}: {problem}; it began on {device} and goes on there alone",
            session.display()
        )
    })
}

fn find(device: &str) -> Result<Way, String> {
    let here = |device: &str, remark| Way::Here {
        device: device.to_owned(),
        remark,
    };
    let is_auto = device == "auto";
    if device == "cpu" || !is_device(device) {
        return Ok(here(device, None));
    }
    let found = if HAS_CUDA {
        gpu::settled(device).map(|device| here(&device, None))
    } else {
        passage().map(Way::There)
    };
    match found {
        Ok(way) => Ok(way),
        Err(problem) if is_auto => {
            let remark = format!("device auto takes the CPU: {problem}");
            Ok(here("cpu", Some(remark)))
        }
        Err(problem) => Err(format!("device {device}: {problem}")),
    }
}

/// The CUDA program with all that it needs, or what is missing.
fn passage() -> Result<Passage, String> {
    if std::env::var_os(OPENED).is_some() {
        return Err(format!(
            "the {PROGRAM} that was started is a program without CUDA"
        ));
    }
    let program = program().ok_or_else(|| format!("{}; {}", absent(), made_by()))?;
    let libraries = libraries(&program);
    match libraries.problem() {
        Some(problem) => Err(problem),
        None => Ok(Passage {
            program,
            libraries: libraries.search_path(),
        }),
    }
}

/// Puts a study into a file, for the CUDA program to begin it.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn hand_over(study: &Study) -> Result<PathBuf> {
    let mut file = tempfile::Builder::new()
        .prefix("shrinklab-study-")
        .suffix(".json")
        .tempfile()?;
    serde_json::to_writer(&mut file, study)?;
    let (_, path) = file.keep()?;
    Ok(path)
}

/// The study in such a file.
///
/// # Errors
/// When there is no study in it.
pub(crate) fn handed_over(file: &Path) -> Result<Study> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: it holds no study", file.display()))
}

/// What there is to say where the CUDA program is not found.
pub(crate) fn absent() -> String {
    format!("{PROGRAM} lies neither beside this program nor in PATH")
}

/// How it comes into being.
pub(crate) fn made_by() -> String {
    format!("`cargo build --release --features cuda --bin {PROGRAM}` makes it")
}

/// What the CUDA program needs, with the folders of a PyTorch where the loader alone does not find all of it.
pub(crate) fn libraries(program: &Path) -> Libraries {
    let mut best = libraries::traced(program, &[]);
    if best.missing().is_empty() {
        return best;
    }
    for folders in python::installations() {
        let with = libraries::traced(program, &folders);
        if with.missing().len() < best.missing().len() {
            best = with;
        }
        if best.missing().is_empty() {
            break;
        }
    }
    best
}

/// The CUDA program beside this one, else in PATH.
pub(crate) fn program() -> Option<PathBuf> {
    let name = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(folders_of(&path))
        .map(|folder| folder.join(&name))
        .find(|file| is_program(file))
}

/// The folders of a variable like `PATH`.
fn folders_of(list: &OsStr) -> impl Iterator<Item = PathBuf> + '_ {
    std::env::split_paths(list).filter(|folder| !folder.as_os_str().is_empty())
}

fn is_program(file: &Path) -> bool {
    let Ok(facts) = std::fs::metadata(file) else {
        return false;
    };
    #[cfg(unix)]
    let may_run = std::os::unix::fs::PermissionsExt::mode(&facts.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let may_run = true;
    facts.is_file() && may_run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_need_no_gpu_stay_here() {
        for device in ["cpu", "tpu", "cudas"] {
            match way(device) {
                Ok(Way::Here {
                    device: found,
                    remark: None,
                }) => assert_eq!(found, device),
                _ => panic!("{device} needs no other program"),
            }
        }
    }
}
