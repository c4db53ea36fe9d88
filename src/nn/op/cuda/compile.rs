//! Kernels from source to the device: compiled by NVRTC for the very card, and kept on disk until something changes.

#![expect(
    unsafe_code,
    reason = "the compiler is called through its own interface"
)]

use std::ffi::{CStr, CString};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc;
use cudarc::driver::{CudaContext, CudaModule};
use cudarc::nvrtc::{Ptx, result, sys};
use sha2::{Digest, Sha256};

use super::{failed, source};
use crate::nn::{Result, invalid};

/// The kernels, ready to be asked for.
pub(super) fn module(context: &Arc<CudaContext>) -> Result<Arc<CudaModule>> {
    let (major, minor) = context.compute_capability().map_err(failed)?;
    let architecture = format!("sm_{major}{minor}");
    let source = source::source();
    let kept = place(&architecture, &source);
    if let Some(kept) = &kept
        && let Ok(binary) = fs::read(kept)
        && let Ok(module) = context.load_module(Ptx::from_binary(binary))
    {
        return Ok(module);
    }
    let binary = compiled(&source, &architecture)?;
    if let Some(kept) = &kept {
        keep(kept, &binary);
    }
    context
        .load_module(Ptx::from_binary(binary))
        .map_err(failed)
}

/// A file per source, card and compiler; none where there is no folder for such files.
fn place(architecture: &str, source: &str) -> Option<PathBuf> {
    let folders = directories::ProjectDirs::from("", "", "shrinklab")?;
    let mut digest = Sha256::new();
    digest.update(source);
    digest.update(architecture);
    let (mut major, mut minor) = (0, 0);
    // SAFETY: two numbers are written.
    let known = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    known.result().ok()?;
    digest.update(format!("{major}.{minor}"));
    let mut first = [0; 8];
    first.copy_from_slice(&digest.finalize()[..8]);
    let name = format!("{architecture}-{:016x}.cubin", u64::from_be_bytes(first));
    Some(folders.cache_dir().join("kernels").join(name))
}

/// Kernels that cannot be kept are compiled again next time: a second or two, and no error.
fn keep(place: &PathBuf, binary: &[u8]) {
    let written = || -> std::io::Result<()> {
        let folder = place.parent().unwrap_or(place);
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, binary)?;
        file.persist(place)?;
        Ok(())
    };
    let _ = written();
}

/// The machine code of a source.
fn compiled(source: &str, architecture: &str) -> Result<Vec<u8>> {
    let text = CString::new(source).map_err(|_| invalid("a kernel's source holds a zero"))?;
    let program = result::create_program(&text, Some(c"shrinklab.cu")).map_err(failed)?;
    let options = [
        format!("--gpu-architecture={architecture}"),
        "--std=c++17".to_owned(),
        "--extra-device-vectorization".to_owned(),
    ];
    // SAFETY: the program was created above and is destroyed below; the code's size is asked for before it is fetched.
    unsafe {
        let outcome = match result::compile_program(program, &options) {
            Ok(()) => fetch(program),
            Err(error) => {
                let log = result::get_program_log(program).unwrap_or_default();
                let log = if log.is_empty() {
                    String::new()
                } else {
                    CStr::from_ptr(log.as_ptr()).to_string_lossy().into_owned()
                };
                Err(invalid(format!(
                    "the kernels cannot be compiled for {architecture}: {error:?}: {log}"
                )))
            }
        };
        let _ = result::destroy_program(program);
        outcome
    }
}

/// # Safety
/// The program was compiled.
unsafe fn fetch(program: sys::nvrtcProgram) -> Result<Vec<u8>> {
    let mut size = 0;
    // SAFETY: a number is written, then as many bytes as it says.
    unsafe {
        sys::nvrtcGetCUBINSize(program, &raw mut size)
            .result()
            .map_err(failed)?;
        let mut binary = vec![0_u8; size];
        sys::nvrtcGetCUBIN(program, binary.as_mut_ptr().cast())
            .result()
            .map_err(failed)?;
        Ok(binary)
    }
}
