//! What a device is asked for, with all that it takes to ask for it again.

use candle_core::cuda_backend::cudarc;
use cudarc::driver::{result, sys};

#[cfg(feature = "cudnn")]
use super::dnn;
use super::{Arg, Engine, Grid, MOST_ARGUMENTS, MOST_COUNTED, Product, failed};
use crate::nn::{Result, invalid};

/// Work on the engine's stream. Two that are equal do the same to the same memory.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    not(feature = "cudnn"),
    expect(
        clippy::large_enum_variant,
        reason = "most commands are kernels, and none may cost an allocation"
    )
)]
pub(super) enum Command {
    Kernel(Call),
    Product(Product),
    #[cfg(feature = "cudnn")]
    Convolution(dnn::Convolution),
    Zero {
        address: u64,
        bytes: usize,
    },
    Copy {
        from: u64,
        to: u64,
        bytes: usize,
    },
}

impl Command {
    /// Whether they are equal, or the same kernel on the same grid with other arguments.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kernel(one), Self::Kernel(other)) => one.is_alike(other),
            (one, other) => one == other,
        }
    }
}

/// A kernel with its arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    function: sys::CUfunction,
    grid: Grid,
    /// Each value lies at the beginning of its eight bytes: little-endian, as every machine with such a GPU.
    values: [u64; MOST_ARGUMENTS],
    count: usize,
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.is_alike(other) && self.values[..self.count] == other.values[..other.count]
    }
}

impl Call {
    /// `name` is the kernel's, for errors; the function takes arguments of these kinds.
    pub(super) fn new(
        name: &str,
        function: sys::CUfunction,
        grid: Grid,
        args: &[Arg],
    ) -> Result<Self> {
        let mut values = [0_u64; MOST_ARGUMENTS];
        for (value, arg) in values.iter_mut().zip(args) {
            *value = match *arg {
                Arg::Pointer(address) => address,
                Arg::Int(value) => u64::from(value.cast_unsigned()),
                Arg::Count(count) if count <= MOST_COUNTED => count as u64,
                Arg::Count(count) => {
                    return Err(invalid(format!(
                        "kernel {name} counts to {MOST_COUNTED}, and {count} are more; a smaller batch has fewer"
                    )));
                }
                Arg::Float(value) => u64::from(value.to_bits()),
                Arg::Double(value) => value.to_bits(),
            };
        }
        Ok(Self {
            function,
            grid,
            values,
            count: args.len(),
        })
    }

    /// The same kernel on the same grid.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        (self.function, self.grid, self.count) == (other.function, other.grid, other.count)
    }

    /// Calls `with` with the function, its blocks and threads, and where each argument lies.
    pub(super) fn with<R>(
        &self,
        with: impl FnOnce(sys::CUfunction, [u32; 2], u32, &mut [*mut std::ffi::c_void]) -> R,
    ) -> Result<R> {
        let mut values = self.values;
        let mut places = values
            .each_mut()
            .map(|value| std::ptr::from_mut(value).cast());
        let size = |n: usize| u32::try_from(n).map_err(|_| invalid("more blocks than a GPU has"));
        let blocks = [size(self.grid.blocks.0)?, size(self.grid.blocks.1)?];
        let threads = size(self.grid.threads)?;
        Ok(with(
            self.function,
            blocks,
            threads,
            &mut places[..self.count],
        ))
    }
}

impl Engine {
    /// Asks the device for it, now.
    pub(super) fn issue(&self, command: &Command) -> Result<()> {
        let stream = self.stream.cu_stream();
        match command {
            // SAFETY: the arguments are of the kinds that the kernel declares, and the driver copies them before the call
            // returns.
            Command::Kernel(call) => call.with(|function, [x, y], threads, places| unsafe {
                result::launch_kernel(function, (x, y, 1), (threads, 1, 1), 0, stream, places)
            })?,
            Command::Product(product) => return self.blas.issue(self.precision, product),
            #[cfg(feature = "cudnn")]
            Command::Convolution(convolution) => return self.dnn.issue(convolution),
            // SAFETY: whoever asks owns that many bytes there.
            Command::Zero { address, bytes } => unsafe {
                result::memset_d8_async(*address, 0, *bytes, stream)
            },
            // SAFETY: whoever asks owns that many bytes at both places.
            Command::Copy { from, to, bytes } => unsafe {
                result::memcpy_dtod_async(*to, *from, *bytes, stream)
            },
        }
        .map_err(failed)
    }
}
