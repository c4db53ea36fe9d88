//! A thread's GPUs: opened, found again, and given back.

use std::cell::RefCell;
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc;
use candle_core::{CudaDevice, Device, Tensor};
use cudarc::driver::{CudaContext, result, sys};

use super::error::{name_of, reason};
use super::{Engine, failed};
use crate::nn::device::Precision;
use crate::nn::{Result, invalid};

/// 0 has every command asked for by itself, should a driver not make graphs as it should.
const GRAPHS: &str = "SHRINKLAB_CUDA_GRAPHS";

/// The engines of a thread.
type Engines = Vec<(DeviceId, Rc<Engine>)>;

thread_local! {
    /// Never destroyed with the thread: a thread's last moments may be the process's, in which the libraries are already
    /// gone and destroying their handles ends in a crash. [`close`] does it in time.
    static ENGINES: RefCell<ManuallyDrop<Engines>> =
        const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    /// The contexts that this thread has used: kept, so that no device is shut down and started anew between two studies.
    static CONTEXTS: RefCell<ManuallyDrop<Vec<Arc<CudaContext>>>> =
        const { RefCell::new(ManuallyDrop::new(Vec::new())) };
}

/// Gives back what this thread's devices hold. No network and no tensor on them may be left.
pub(crate) fn close() {
    let engines = ENGINES.with_borrow_mut(|engines| std::mem::take(&mut **engines));
    for (_, engine) in engines {
        let stream = Arc::clone(&engine.stream);
        // A device that failed answers every call with that failure, and libraries panic at it: then nothing is given back.
        if stream.synchronize().is_err() {
            std::mem::forget(engine);
            continue;
        }
        drop(engine);
        // What was freed is free once the stream has come to it; only then the driver can give it back.
        let _ = stream.synchronize();
        let _ = trim(stream.context());
    }
}

/// Has the driver give back the memory that it keeps.
pub(super) fn trim(context: &Arc<CudaContext>) -> Result<()> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    // SAFETY: only memory that nobody holds is given back.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device()).map_err(failed)?;
        result::mem_pool::trim_to(pool, 0).map_err(failed)
    }
}

/// Opens a device for this thread: the GPU of that number.
///
/// # Errors
/// When there is no such device, or its kernels cannot be compiled.
pub(crate) fn open(ordinal: usize, precision: Precision) -> Result<Device> {
    let device = CudaDevice::new_with_stream(ordinal).map_err(|error| {
        let text = error.to_string();
        let problem = match name_of(&text) {
            Some("CUDA_ERROR_NO_DEVICE") => "there is none in this machine".to_owned(),
            Some("CUDA_ERROR_INVALID_DEVICE") => {
                let count = CudaContext::device_count().unwrap_or(0);
                format!("this machine has {count}, counted from 0")
            }
            _ => reason(&text),
        };
        invalid(format!("GPU {ordinal} cannot be used: {problem}"))
    })?;
    // SAFETY: one thread and one stream: nothing is used anywhere before the stream has come to it.
    unsafe { device.disable_event_tracking() };
    keep_memory(&device)?;
    let context = Arc::clone(device.cuda_stream().context());
    CONTEXTS.with_borrow_mut(|contexts| {
        if !contexts.contains(&context) {
            contexts.push(context);
        }
    });
    let engine = Engine::new(&device, precision)?;
    if std::env::var_os(GRAPHS).is_some_and(|word| word == "0") {
        engine.set_graphs(Some("SHRINKLAB_CUDA_GRAPHS=0"));
    }
    ENGINES.with_borrow_mut(|engines| engines.push((device.id(), Rc::new(engine))));
    Ok(Device::Cuda(device))
}

/// The driver gives memory back to the system at every synchronization unless it is told to keep it; asking for it
/// again costs as much as many small kernels.
fn keep_memory(device: &CudaDevice) -> Result<()> {
    let stream = device.cuda_stream();
    let context = stream.context();
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut threshold = u64::MAX;
    // SAFETY: the attribute of that name is a number of 64 bits.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device()).map_err(failed)?;
        result::mem_pool::set_attribute(
            pool,
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut threshold).cast::<c_void>(),
        )
        .map_err(failed)
    }
}

/// The engine of a tensor's device.
pub(crate) fn engine(device: &CudaDevice) -> Result<Rc<Engine>> {
    let id = device.id();
    let found = ENGINES.with_borrow(|engines| {
        let found = engines.iter().find(|(known, _)| *known == id);
        found.map(|(_, engine)| Rc::clone(engine))
    });
    found.ok_or_else(|| invalid("a GPU was used by another thread than the one that opened it"))
}

/// The engine of the device that a tensor lies on; none in main memory.
pub(crate) fn engine_of(tensor: &Tensor) -> Result<Option<Rc<Engine>>> {
    match tensor.device() {
        Device::Cuda(device) => engine(device).map(Some),
        _ => Ok(None),
    }
}
