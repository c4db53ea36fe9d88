//! Work that is asked for again and again, which a GPU can be asked for all at once.
//!
//! A step of training is some dozen kernels, each of which costs the host a call of the driver; small networks are computed
//! faster than that. The CPU does the work as it comes.

use candle_core::Device;
#[cfg(feature = "cuda")]
use candle_core::cuda_backend::DeviceId;

use super::Result;
#[cfg(feature = "cuda")]
use super::op::cuda;

/// Sizes of batches that are told apart: that of most batches, and that of an epoch's last one.
#[cfg(feature = "cuda")]
const SIZES: usize = 2;

/// What is known of work that was done before.
#[derive(Debug, Default)]
pub struct Repeated {
    /// By device and size of the batches, what was asked for last at the end.
    #[cfg(feature = "cuda")]
    known: Vec<((DeviceId, usize), cuda::Memo)>,
}

impl Repeated {
    /// Does the work, on a batch of that size. Tensors that it makes must be gone before it is done again; those that a
    /// workspace gave and gets back may stay.
    ///
    /// # Errors
    /// The work's, and candle's.
    pub fn run<R>(
        &mut self,
        device: &Device,
        size: usize,
        work: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = device {
            let of = (device.id(), size);
            let at = self.known.iter().position(|(known, _)| *known == of);
            let mut memo = at.map_or_else(cuda::Memo::default, |at| self.known.remove(at).1);
            let done = cuda::engine(device)?.repeat(&mut memo, work);
            if self.known.len() >= SIZES {
                self.known.remove(0);
            }
            self.known.push((of, memo));
            return done;
        }
        let _ = (device, size);
        work()
    }
}
