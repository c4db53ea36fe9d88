//! The ops' home on an NVIDIA GPU: their kernels, the libraries beside them, and where tensors lie.
//!
//! One thread owns a device: its tensors, its stream and the [`Engine`], so what is asked for first is done first, and
//! nothing has to wait for anything but a read back to the host. Work is only asked for here; it is done later, in order.
//!
//! Each op's file holds its kernels as CUDA C in a module `cuda` and calls them through [`Engine::launch`].

#![expect(
    unsafe_code,
    reason = "kernels and libraries take addresses on the device"
)]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc;
use candle_core::{CudaDevice, DType, Storage, Tensor};
use cudarc::driver::{CudaFunction, CudaModule, CudaStream, DevicePtr, DeviceRepr, result};

use crate::nn::device::{Graphs, Precision};
use crate::nn::{Result, invalid};
use source::{Kind, Signatures};

mod blas;
mod command;
mod compile;
#[cfg(feature = "cudnn")]
pub(crate) mod dnn;
mod error;
mod graph;
pub(crate) mod ledger;
mod open;
mod repeat;
mod source;
pub mod work;

pub(crate) use blas::{Operand, Product};
use command::{Call, Command};
use error::failed;
pub(crate) use error::{is_out_of_memory, told};
pub(crate) use open::{close, engine, engine_of, open};
pub(crate) use repeat::Memo;

/// Threads of a block where a kernel asks for nothing else.
pub(crate) const BLOCK: usize = 256;

/// Blocks of a kernel that walks over as much as there is: several for each processor of the largest cards.
const MOST_BLOCKS: usize = 132 * 16;

/// Rows that a thread of `over_rows` adds by itself, at least: what it reads at once, or twice that.
const ROWS: usize = 16;

/// Blocks of a kernel made of `over_rows`: two for each processor of the largest cards; the last of them adds what the
/// others found.
pub(crate) const SUMMING: usize = 132 * 2;

/// The most arguments that a kernel takes.
const MOST_ARGUMENTS: usize = 32;

/// What a kernel counts in 32 bits may grow beyond its end before it is compared: by one stride of all threads, or by 31 rows
/// of all threads of `over_rows`, together at most [`SUMMING`] · [`BLOCK`] · 31 = 2,095,104.
const MOST_COUNTED: usize = i32::MAX as usize - (1 << 21);

/// Tables that are kept on the device before all are made anew.
const MOST_TABLES: usize = 64;

/// What a kernel is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    /// An address on the device; 0 for nothing.
    Pointer(u64),
    Int(i32),
    /// An `int` that counts something: [`Engine::launch`] refuses more than a kernel can walk over.
    Count(usize),
    Float(f32),
    Double(f64),
}

impl From<u64> for Arg {
    fn from(address: u64) -> Self {
        Self::Pointer(address)
    }
}

impl From<i32> for Arg {
    fn from(value: i32) -> Self {
        Self::Int(value)
    }
}

impl From<usize> for Arg {
    fn from(value: usize) -> Self {
        Self::Count(value)
    }
}

impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        Self::Int(i32::from(value))
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<f64> for Arg {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

/// How a kernel's threads are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) blocks: (usize, usize),
    pub(crate) threads: usize,
}

impl Grid {
    /// One thread for each of `n` things, or for every so many of them.
    pub(crate) fn over(n: usize) -> Self {
        Self {
            blocks: (n.div_ceil(BLOCK).clamp(1, MOST_BLOCKS), 1),
            threads: BLOCK,
        }
    }

    /// For a kernel made of `each_value`, over `n` values at these addresses; and whether four go at once.
    pub(crate) fn over_values(n: usize, addresses: &[u64]) -> (Self, Arg) {
        let wide = are_aligned(addresses);
        let threads = if wide { n.div_ceil(4) } else { n };
        (Self::over(threads), wide.into())
    }

    /// That many blocks of [`BLOCK`] threads.
    pub(crate) fn blocks(x: usize, y: usize) -> Self {
        Self {
            blocks: (x.max(1), y.max(1)),
            threads: BLOCK,
        }
    }
}

/// A device's kernels, libraries and scratch memory.
pub(crate) struct Engine {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    module: Arc<CudaModule>,
    signatures: &'static Signatures,
    functions: RefCell<HashMap<&'static str, (CudaFunction, &'static [Kind])>>,
    precision: Precision,
    /// Memory that a single op needs while it runs; growing and never shrinking.
    scratch: RefCell<HashMap<Slot, Tensor>>,
    /// Words that kernels read, by what they are.
    tables: RefCell<HashMap<Vec<u64>, Tensor>>,
    blas: blas::Blas,
    #[cfg(feature = "cudnn")]
    dnn: dnn::Dnn,
    #[cfg(feature = "cudnn")]
    uses_dnn: Cell<bool>,
    ledger: ledger::Ledger,
    /// Repeated work under way.
    run: RefCell<Option<repeat::Run>>,
    /// Why no graphs are made, if none are.
    without_graphs: RefCell<Option<String>>,
    /// How many graphs were asked for.
    graphs: Cell<u64>,
}

/// What scratch memory is for: two that are needed at once never share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    /// A gradient behind a ReLU or a pooling, a convolution's result before them, or sums of parts in their place.
    Undone,
    /// Patches, or a library's own use.
    Workspace,
    /// A soft decision tree's paths and their gradients.
    Tree,
    /// The attention of feature maps, or what a regressor makes of them.
    Features,
    /// Sums of parts.
    Partial,
    /// How many blocks are done; zero between kernels.
    Counters,
    /// What steps found, until it is read.
    Ledger,
}

impl Engine {
    fn new(device: &CudaDevice, precision: Precision) -> Result<Self> {
        let stream = device.cuda_stream();
        let module = compile::module(stream.context())?;
        Ok(Self {
            blas: blas::Blas::new(device)?,
            #[cfg(feature = "cudnn")]
            dnn: dnn::Dnn::new(&stream)?,
            ledger: ledger::Ledger::default(),
            device: device.clone(),
            stream,
            module,
            signatures: source::signatures(),
            functions: RefCell::default(),
            precision,
            scratch: RefCell::default(),
            tables: RefCell::default(),
            #[cfg(feature = "cudnn")]
            uses_dnn: Cell::new(true),
            run: RefCell::default(),
            without_graphs: RefCell::default(),
            graphs: Cell::default(),
        })
    }

    #[cfg(feature = "cudnn")]
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    pub(crate) fn ledger(&self) -> &ledger::Ledger {
        &self.ledger
    }

    /// cuDNN, unless convolutions are to be products of matrices.
    #[cfg(feature = "cudnn")]
    pub(crate) fn dnn(&self) -> Option<&dnn::Dnn> {
        self.uses_dnn.get().then_some(&self.dnn)
    }

    /// Makes convolutions products of matrices, as they are without cuDNN; or takes that back.
    pub(crate) fn set_products(&self, products: bool) {
        #[cfg(feature = "cudnn")]
        self.uses_dnn.set(!products);
        let _ = (self, products);
    }

    /// Where a table of words lies on the device; it is written there only once.
    pub(crate) fn table(&self, words: Vec<u64>) -> Result<u64> {
        let mut tables = self.tables.borrow_mut();
        if let Some(found) = tables.get(&words) {
            return at(found);
        }
        // What was held back may read them.
        self.interrupt()?;
        if tables.len() >= MOST_TABLES {
            tables.clear();
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let table = self.upload(&bytes, &[bytes.len()])?;
        let address = at(&table)?;
        tables.insert(words, table);
        Ok(address)
    }

    /// A tensor of that many values, from the driver.
    fn fresh(&self, n: usize, dtype: DType) -> Result<Tensor> {
        // A driver gives no address for no memory.
        let n = n.max(1);
        // SAFETY: whoever takes a buffer writes it before it is read.
        let storage = unsafe {
            match dtype {
                DType::U8 => wrapped::<u8>(&self.device, n)?,
                DType::U32 => wrapped::<u32>(&self.device, n)?,
                _ => wrapped::<f32>(&self.device, n)?,
            }
        };
        Ok(Tensor::from_storage(
            Storage::Cuda(storage),
            n,
            candle_core::op::BackpropOp::none(),
            false,
        ))
    }

    /// A copy on the device.
    pub(crate) fn upload<T: CudaDType + DeviceRepr>(
        &self,
        values: &[T],
        shape: &[usize],
    ) -> Result<Tensor> {
        self.interrupt()?;
        let slice = self.stream.clone_htod(values).map_err(failed)?;
        let storage = candle_core::CudaStorage::wrap_cuda_slice(slice, self.device.clone());
        Ok(Tensor::from_storage(
            Storage::Cuda(storage),
            shape,
            candle_core::op::BackpropOp::none(),
            false,
        ))
    }

    /// Scratch memory of at least `n` floats, to be written before it is read, until the next op that asks for it.
    pub(crate) fn scratch(&self, slot: Slot, n: usize) -> Result<u64> {
        let mut scratch = self.scratch.borrow_mut();
        if let Some(found) = scratch.get(&slot)
            && found.elem_count() >= n
        {
            return at(found);
        }
        // What was held back may be for the memory that there was.
        self.interrupt()?;
        let fresh = self.fresh(n, DType::F32)?;
        let address = at(&fresh)?;
        if matches!(slot, Slot::Counters | Slot::Ledger) {
            self.zero(address, n)?;
        }
        scratch.insert(slot, fresh);
        Ok(address)
    }

    /// Gives back scratch memory, and what the driver keeps; not what steps found.
    pub(crate) fn release(&self) -> Result<()> {
        self.interrupt()?;
        self.scratch
            .borrow_mut()
            .retain(|slot, _| *slot == Slot::Ledger);
        self.tables.borrow_mut().clear();
        self.synchronize()?;
        open::trim(self.stream.context())
    }

    /// Counters that are zero when a kernel starts and that it leaves at zero.
    pub(crate) fn counters(&self, n: usize) -> Result<u64> {
        self.scratch(Slot::Counters, n.max(1024))
    }

    /// The grid of a kernel made of `over_rows` for `sums` sums, and the arguments after its rows and channels: the width,
    /// memory for partial sums, counters.
    pub(crate) fn over_rows(
        &self,
        rows: usize,
        channels: usize,
        sums: usize,
    ) -> Result<(Grid, [Arg; 3])> {
        let width = channels.next_power_of_two().min(32);
        let columns = channels.div_ceil(width);
        let lanes = BLOCK / width;
        // Each thread adds some rows, unless there are too few blocks to keep a card busy.
        let most = (SUMMING / columns).max(1);
        let blocks = rows.div_ceil(lanes * ROWS).clamp(1, most);
        let partial = self.scratch(Slot::Partial, 2 * sums * blocks * channels)?;
        let counters = self.counters(columns)?;
        let args = [width.into(), partial.into(), counters.into()];
        Ok((Grid::blocks(blocks, columns), args))
    }

    /// Puts `n` floats to zero.
    pub(crate) fn zero(&self, address: u64, n: usize) -> Result<()> {
        let bytes = n * size_of::<f32>();
        self.ask(Command::Zero { address, bytes })
    }

    /// Copies `n` floats.
    pub(crate) fn copy(&self, from: u64, to: u64, n: usize) -> Result<()> {
        let bytes = n * size_of::<f32>();
        self.ask(Command::Copy { from, to, bytes })
    }

    /// Overwrites floats on the device by those of the host; the slice may change as soon as this returns.
    pub(crate) fn write(&self, address: u64, values: &[f32]) -> Result<()> {
        self.interrupt()?;
        // SAFETY: the callers own that many floats there; pageable memory is copied before the call returns.
        unsafe {
            result::memcpy_htod_async(address, values, self.stream.cu_stream()).map_err(failed)
        }
    }

    /// As [`Engine::write`], for any bytes.
    pub(crate) fn write_bytes(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.interrupt()?;
        // SAFETY: as there.
        unsafe {
            result::memcpy_htod_async(address, bytes, self.stream.cu_stream()).map_err(failed)
        }
    }

    /// Floats of the device, once all that was asked for is done.
    pub(crate) fn read(&self, address: u64, n: usize) -> Result<Vec<f32>> {
        self.interrupt()?;
        let mut values = vec![0.0_f32; n];
        // SAFETY: the callers own that many floats there; the copy is waited for.
        unsafe {
            result::memcpy_dtoh_async(&mut values, address, self.stream.cu_stream())
                .map_err(failed)?;
        }
        self.synchronize()?;
        Ok(values)
    }

    /// Asks for a product of matrices.
    pub(crate) fn multiply(&self, product: &Product) -> Result<()> {
        self.ask(Command::Product(*product))
    }

    /// Waits until all that was asked for is done.
    pub(crate) fn synchronize(&self) -> Result<()> {
        self.interrupt()?;
        self.stream.synchronize().map_err(failed)
    }

    /// Asks for a kernel. The arguments are checked to be as many and of the kinds that the kernel declares; that
    /// addresses hold as much as it touches is for the op to know.
    pub(crate) fn launch(&self, kernel: &'static str, grid: Grid, args: &[Arg]) -> Result<()> {
        let mut functions = self.functions.borrow_mut();
        let (function, declared) = match functions.entry(kernel) {
            std::collections::hash_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let declared = self.signatures.get(kernel);
                let declared =
                    declared.ok_or_else(|| invalid(format!("there is no kernel {kernel}")))?;
                let function = self.module.load_function(kernel).map_err(failed)?;
                place.insert((function, declared.as_slice()))
            }
        };
        let given = args.iter().map(|arg| Kind::of(*arg));
        if args.len() > MOST_ARGUMENTS || !given.eq(declared.iter().copied()) {
            return Err(invalid(format!(
                "kernel {kernel} takes {declared:?}, and {args:?} was given"
            )));
        }
        let call = Call::new(kernel, function.cu_function(), grid, args)?;
        self.ask(Command::Kernel(call))
    }

    /// How repeated work was asked for so far.
    pub(crate) fn graphs(&self) -> Graphs {
        Graphs {
            launched: self.graphs.get(),
            without: self.without_graphs.borrow().clone(),
        }
    }

    fn uses_graphs(&self) -> bool {
        self.without_graphs.borrow().is_none()
    }

    /// Makes no more graphs for that reason, or makes them again.
    pub(crate) fn set_graphs(&self, without: Option<&str>) {
        *self.without_graphs.borrow_mut() = without.map(str::to_owned);
    }

    /// The driver makes no graph of what works without one.
    fn refuse_graphs(&self, error: &candle_core::Error) {
        self.set_graphs(Some(&error.to_string()));
    }

    fn count_graph(&self) {
        self.graphs.set(self.graphs.get() + 1);
    }
}

/// # Safety
/// The memory is not initialized.
unsafe fn wrapped<T: CudaDType + DeviceRepr>(
    device: &CudaDevice,
    n: usize,
) -> Result<candle_core::CudaStorage> {
    // SAFETY: the caller's.
    let slice = unsafe { device.cuda_stream().alloc::<T>(n).map_err(failed)? };
    Ok(candle_core::CudaStorage::wrap_cuda_slice(
        slice,
        device.clone(),
    ))
}

/// Refuses an array that kernels cannot walk over, where what they are told to count is less than it has values: its rows, its
/// windows, several values at a time.
pub(crate) fn countable(values: usize) -> Result<()> {
    if values <= MOST_COUNTED {
        return Ok(());
    }
    Err(invalid(format!(
        "a kernel finds its way among {MOST_COUNTED} values, and {values} are more; a smaller batch has fewer"
    )))
}

/// Whether four values can be read at once from each of these addresses.
pub(crate) fn are_aligned(addresses: &[u64]) -> bool {
    addresses.iter().all(|address| address.is_multiple_of(16))
}

/// Where a tensor's values begin on its device; they lie side by side, in whatever order.
pub(crate) fn at(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        return Err(invalid("a tensor in main memory was given to a GPU"));
    };
    let offset = layout.start_offset() as u64;
    let stream = storage.device().cuda_stream();
    let (base, size) = match tensor.dtype() {
        DType::U8 => (storage.as_cuda_slice::<u8>()?.device_ptr(&stream).0, 1),
        DType::U32 => (storage.as_cuda_slice::<u32>()?.device_ptr(&stream).0, 4),
        _ => (storage.as_cuda_slice::<f32>()?.device_ptr(&stream).0, 4),
    };
    Ok(base + offset * size)
}

/// Where a tensor's values begin, or nowhere.
pub(crate) fn at_option(tensor: Option<&Tensor>) -> Result<u64> {
    tensor.map_or(Ok(0), at)
}
