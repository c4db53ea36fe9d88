//! Ops: forward and backward of one computation each.
//!
//! The kernels are functions on slices, testable without candle.
//! Results are written into tensors that the caller owns, through candle's in-place ops, so that nothing is allocated or
//! zero-filled on the way: [`read`] borrows a tensor's values, [`write`] lends them for writing.
//! Work is divided by rayon over the images of a batch; what is summed over images is summed per part first and the
//! parts are added in order, so a result depends on the number of threads and on nothing else.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Storage, StorageRef, Tensor};

use super::{Result, invalid};

pub mod adamw;
pub mod add;
pub mod average_pool2d;
pub mod batch_norm2d;
pub mod conv2d;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod depthwise_conv2d;
pub mod fake_quant;
pub mod flatten;
pub mod gather;
pub mod gemm;
pub mod geometry;
pub mod integer;
pub mod kernel;
pub mod max_pool2d;
pub mod normalize;
#[cfg(feature = "cuda")]
pub(crate) mod order;
pub mod panels;
pub mod relu;
pub mod requantize;
pub mod sgd;
pub mod sign_step;
pub mod simd;
pub mod soft_tree;

/// A tensor's values, borrowed for reading.
pub struct Values<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => unreachable!("`read` checked the device and the type"),
        }
    }
}

/// The values of a contiguous 32-bit tensor in main memory.
pub fn read(tensor: &Tensor) -> Result<Values<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let range = contiguous(layout)?;
    match &*storage {
        Storage::Cpu(CpuStorage::F32(_)) => Ok(Values { storage, range }),
        _ => Err(invalid(format!(
            "a tensor of {:?} on {:?} was given where 32-bit floats in main memory are needed",
            tensor.dtype(),
            tensor.device().location()
        ))),
    }
}

/// Lends the values of a contiguous 32-bit tensor for writing.
pub fn write<R>(tensor: &Tensor, fill: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
    let lend = Lend {
        fill: Cell::new(Some(|storage: &mut CpuStorage, range: Range<usize>| {
            if let CpuStorage::F32(values) = storage {
                Ok(fill(&mut values[range]))
            } else {
                Err(invalid("32-bit floats are needed here"))
            }
        })),
        result: Cell::new(None),
    };
    tensor.inplace_op1(&lend)?;
    lend.result
        .into_inner()
        .ok_or_else(|| invalid("a tensor was not lent"))
}

/// As [`write`], for bytes.
pub fn write_bytes<R>(tensor: &Tensor, fill: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
    let lend = Lend {
        fill: Cell::new(Some(|storage: &mut CpuStorage, range: Range<usize>| {
            if let CpuStorage::U8(values) = storage {
                Ok(fill(&mut values[range]))
            } else {
                Err(invalid("bytes are needed here"))
            }
        })),
        result: Cell::new(None),
    };
    tensor.inplace_op1(&lend)?;
    lend.result
        .into_inner()
        .ok_or_else(|| invalid("a tensor was not lent"))
}

/// Lends a tensor's storage to a closure, once.
struct Lend<F, R> {
    fill: Cell<Option<F>>,
    result: Cell<Option<R>>,
}

impl<R, F: FnOnce(&mut CpuStorage, Range<usize>) -> Result<R>> InplaceOp1 for Lend<F, R> {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let range = contiguous(layout)?;
        if let Some(fill) = self.fill.take() {
            self.result.set(Some(fill(storage, range)?));
        }
        Ok(())
    }
}

/// Where a contiguous tensor's values lie in its storage.
fn contiguous(layout: &Layout) -> Result<Range<usize>> {
    layout
        .contiguous_offsets()
        .map(|(start, end)| start..end)
        .ok_or_else(|| invalid("a tensor was given whose values do not lie side by side"))
}

/// The bytes of a contiguous tensor of bytes in main memory.
pub struct Bytes<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::U8(values)) => &values[self.range.clone()],
            _ => unreachable!("`read_bytes` checked the device and the type"),
        }
    }
}

/// As [`read`], for bytes.
pub fn read_bytes(tensor: &Tensor) -> Result<Bytes<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let range = contiguous(layout)?;
    match &*storage {
        Storage::Cpu(CpuStorage::U8(_)) => Ok(Bytes { storage, range }),
        _ => Err(invalid("bytes in main memory are needed here")),
    }
}

/// A tensor of its own in main memory.
pub fn tensor(values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Memory for that many values on a device; what it holds is left over, or zeros.
pub(crate) fn empty(n: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::engine(device)?.empty(n, dtype),
        Device::Cpu => aligned_zeros(n, dtype),
        device => Tensor::zeros(n, dtype, device),
    }
}

/// The same for as long as is liked, also beyond work that a GPU repeats.
pub(crate) fn lasting(n: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return cuda::engine(device)?.lasting(n, dtype);
    }
    empty(n, dtype, device)
}

/// A copy of a tensor's values, row by row, wherever and in whatever order they lie.
pub fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    #[cfg(feature = "cuda")]
    if let Some(engine) = cuda::engine_of(tensor)? {
        let stored = engine.read(cuda::at(tensor)?, tensor.elem_count())?;
        return Ok(order::by_rows(tensor, &stored));
    }
    Ok(read(tensor)?.to_vec())
}

/// Overwrites a tensor's values, given row by row.
pub fn set_values(tensor: &Tensor, values: &[f32]) -> Result<()> {
    if values.len() != tensor.elem_count() {
        return Err(invalid(format!(
            "{} values were given for a tensor of {:?}",
            values.len(),
            tensor.dims()
        )));
    }
    #[cfg(feature = "cuda")]
    if let Some(engine) = cuda::engine_of(tensor)? {
        return engine.write(cuda::at(tensor)?, &order::as_stored(tensor, values));
    }
    write(tensor, |target| target.copy_from_slice(values))
}

/// A tensor of its own with these values, on the device and in the order of another.
pub fn beside(tensor: &Tensor, values: &[f32]) -> Result<Tensor> {
    let copy = tensor.copy()?;
    set_values(&copy, values)?;
    Ok(copy)
}

/// The tensor on a device, row by row there.
pub fn to_device(tensor: &Tensor, device: &Device) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device
        && matches!(tensor.device(), Device::Cpu)
    {
        return cuda::engine(device)?.upload(&read(tensor)?, tensor.dims());
    }
    tensor.to_device(device)
}

/// Bytes of a cache line, and of the widest register.
const LINE: usize = 64;

/// As [`zeros`], beginning where a cache line does: no register's worth of values then lies in two of them.
fn aligned_zeros(n: usize, dtype: DType) -> Result<Tensor> {
    let spare = LINE / dtype.size_in_bytes() - 1;
    let all = Tensor::zeros(n + spare, dtype, &Device::Cpu)?;
    let from = match dtype {
        DType::U8 => read_bytes(&all)?.as_ptr().align_offset(LINE),
        _ => read(&all)?.as_ptr().align_offset(LINE),
    };
    all.narrow(0, from.min(spare), n)
}

/// Buffers of the CPU kernels: packed weights, lines of images, sums of a part; growing and never shrinking.
#[derive(Debug, Default)]
pub struct Scratch {
    common: Vec<f32>,
    parts: Vec<Vec<f32>>,
    /// What each pass packs its weights into, where they stay as they are: by the pass.
    kept: BTreeMap<usize, Kept>,
    /// Whether they stay as they are.
    keeps: bool,
    /// The pass that asks.
    pass: usize,
}

/// Packed weights of a pass.
#[derive(Debug, Default)]
struct Kept {
    values: Vec<f32>,
    /// Whether they are those of the weights as they are.
    is_made: bool,
}

/// Room for packed weights.
#[derive(Debug)]
pub(super) struct Packed<'a> {
    pub values: &'a mut [f32],
    /// Whether they lie there from an earlier pass.
    pub is_made: bool,
}

/// Values of packed weights that are kept at most, 1 GiB: all of a `resnet152`'s, whose 3x3 kernels take four times their
/// own memory once they are transformed.
const MOST_KEPT: usize = 256 << 20;

/// So much memory waits for the next network that stays as it is, 64 MiB; more is freed.
const MOST_WAITING: usize = 16 << 20;

impl Scratch {
    /// One buffer for what the parts share, and those of `n` parts.
    pub(super) fn lend(&mut self, n: usize) -> (&mut Vec<f32>, &mut [Vec<f32>]) {
        if self.parts.len() < n {
            self.parts.resize_with(n, Vec::new);
        }
        (&mut self.common, &mut self.parts[..n])
    }

    /// Room for `size` values of packed weights, and the buffers of `n` parts.
    pub(super) fn lend_packed(&mut self, n: usize, size: usize) -> (Packed<'_>, &mut [Vec<f32>]) {
        if self.parts.len() < n {
            self.parts.resize_with(n, Vec::new);
        }
        let known = self
            .kept
            .get(&self.pass)
            .map_or(0, |kept| kept.values.len());
        let is_kept = self.keeps && (size <= known || self.held() + size <= MOST_KEPT);
        let parts = &mut self.parts[..n];
        if !is_kept {
            return (made_anew(&mut self.common, size), parts);
        }
        let kept = self.kept.entry(self.pass).or_default();
        let is_made = kept.is_made && known == size;
        kept.values.resize(size, 0.0);
        kept.is_made = true;
        let packed = Packed {
            values: &mut kept.values,
            is_made,
        };
        (packed, parts)
    }

    /// Packed values that are held.
    fn held(&self) -> usize {
        self.kept.values().map(|kept| kept.values.len()).sum()
    }

    /// Packed weights are kept from now on: nobody writes to them until [`Self::forget`].
    pub(super) fn keep(&mut self) {
        self.forget();
        self.keeps = true;
    }

    /// Packed weights are made anew from now on.
    pub(super) fn forget(&mut self) {
        self.keeps = false;
        if self.held() > MOST_WAITING {
            self.kept.clear();
        }
        for kept in self.kept.values_mut() {
            kept.is_made = false;
        }
    }

    /// Which pass asks from now on: each has weights of its own.
    pub(super) fn begin(&mut self, pass: usize) {
        self.pass = pass;
    }
}

fn made_anew(buffer: &mut Vec<f32>, size: usize) -> Packed<'_> {
    Packed {
        values: grown(buffer, size),
        is_made: false,
    }
}

/// The first `n` values of a buffer, which grows as needed. What they hold is left over from earlier.
pub(crate) fn grown(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if buffer.len() < n {
        buffer.resize(n, 0.0);
    }
    &mut buffer[..n]
}

/// 0..`n` in as many even, contiguous parts as there are threads, and no empty one.
pub(crate) fn parts(n: usize) -> Vec<Range<usize>> {
    cut(n, rayon::current_num_threads()).collect()
}

/// 0..`n` in so many even, contiguous parts, and no empty one.
pub(crate) fn cut(n: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
    let count = count.clamp(1, n.max(1));
    (0..count).map(move |part| n * part / count..n * (part + 1) / count)
}

/// A slice cut into the parts' shares of `each` values per item.
pub(crate) fn shares<'a, T>(
    mut slice: &'a mut [T],
    parts: &[Range<usize>],
    each: usize,
) -> Vec<&'a mut [T]> {
    parts
        .iter()
        .map(|part| {
            let (head, tail) = std::mem::take(&mut slice).split_at_mut(part.len() * each);
            slice = tail;
            head
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_weights_are_made_once_where_they_stay() {
        let mut scratch = Scratch::default();
        let is_made = |scratch: &mut Scratch, pass, size| {
            scratch.begin(pass);
            let (packed, parts) = scratch.lend_packed(2, size);
            assert_eq!((packed.values.len(), parts.len()), (size, 2));
            packed.is_made
        };
        for _ in 0..2 {
            assert!(!is_made(&mut scratch, 0, 8), "they may be written to");
        }
        for _ in 0..2 {
            scratch.keep();
            assert!(!is_made(&mut scratch, 0, 8));
            assert!(!is_made(&mut scratch, 3, 8));
            assert!(is_made(&mut scratch, 0, 8) && is_made(&mut scratch, 3, 8));
            assert!(!is_made(&mut scratch, 0, 9), "others");
        }
        scratch.forget();
        assert!(!is_made(&mut scratch, 3, 8));
        assert_eq!(scratch.held(), 17, "a little waits");
        scratch.keep();
        assert!(!is_made(&mut scratch, 1, MOST_WAITING));
        scratch.forget();
        assert_eq!(scratch.held(), 0, "much does not");
    }
}
