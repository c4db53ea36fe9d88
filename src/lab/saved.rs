//! Networks in files of their own: written when a study asks for it, and begun from by another study.
//!
//! A file is the network as the lab has it, smaller layers, levels, masks and all; `--from` reads it back.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::lab::error::{Error, Result};
use crate::nn::ImageShape;
use crate::nn::network::Network;
use crate::nn::parameters::pretrained;
use crate::spec::{Method, Weights};

/// A network that another study saved, and the architecture that it had been once, with its knobs.
pub struct Saved {
    pub network: Network,
    pub design: Option<Method>,
}

/// The network in the file that a study begins from; nothing where the file holds weights for an architecture.
///
/// # Errors
/// When the file cannot be read, or is another than the one that the study began from.
pub fn read(from: &Weights) -> Result<Option<Saved>> {
    let found = pretrained::whole(Path::new(&from.file), from.sha256.as_deref())?;
    Ok(found.map(|filed| Saved {
        network: filed.network,
        design: serde_json::from_value(filed.remark).ok(),
    }))
}

/// Whether such a network is for such images, and nothing else was asked of it.
///
/// # Errors
/// [`Error::Impossible`] in one sentence.
pub fn fits(
    saved: &Network,
    from: &Weights,
    architecture: &str,
    shape: ImageShape,
    classes: usize,
) -> Result<()> {
    let impossible = |knob: &str, problem: String| Error::Impossible {
        knob: knob.to_owned(),
        problem,
    };
    if saved.name() != architecture {
        let problem = format!(
            "{architecture} was asked for, {} holds {}",
            from.file,
            saved.name()
        );
        return Err(impossible("architecture", problem));
    }
    if saved.input() != shape || saved.classes() != classes {
        let words = |shape: ImageShape, classes: usize| {
            let ImageShape {
                channels,
                height,
                width,
            } = shape;
            format!("images of {channels}x{height}x{width} in {classes} classes")
        };
        let problem = format!(
            "{} holds a network for {}, the data set has {}",
            from.file,
            words(saved.input(), saved.classes()),
            words(shape, classes)
        );
        return Err(impossible("from", problem));
    }
    if !(from.mean.is_empty() && from.std.is_empty()) {
        let problem = format!(
            "{} has a mean and a deviation of its own; leave them out",
            from.file
        );
        return Err(impossible("mean", problem));
    }
    Ok(())
}

/// Writes a network into a folder under that name, or the name and a number where there is a file of that name already;
/// where it lies, and its bytes.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write(
    network: &Network,
    design: &Method,
    folder: &Path,
    name: &str,
) -> Result<(PathBuf, u64)> {
    let remark = serde_json::to_value(design)
        .map_err(|error| Error::Internal(format!("knobs of {}: {error}", design.id)))?;
    let bytes = network.to_file(&remark)?;
    let failed = |source| Error::File {
        context: format!("save {}", folder.display()),
        source,
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    temporary.write_all(&bytes).map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    let names = (2_u32..).map(|n| format!("{name}-{n}.safetensors"));
    for name in std::iter::once(format!("{name}.safetensors")).chain(names) {
        let file = folder.join(name);
        match temporary.persist_noclobber(&file) {
            Ok(_) => return Ok((file, bytes.len() as u64)),
            Err(refused) if refused.error.kind() == std::io::ErrorKind::AlreadyExists => {
                temporary = refused.file;
            }
            Err(refused) => return Err(failed(refused.error)),
        }
    }
    Err(Error::Internal("a folder cannot hold all names".to_owned()))
}
