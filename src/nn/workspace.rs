//! Memory that is used again from step to step.
//!
//! Passes take buffers and give them back when they are over, so that a training step allocates nothing after the first.
//! Batches of another size need other buffers: those that nobody takes any more are freed.

use candle_core::{DType, Device, Tensor};

use super::Result;
use super::op::{Scratch, empty};
use super::trace::Gradients;

/// Passes in a row without use after which a buffer is freed: two kinds of passes that alternate keep theirs.
const IDLE: u64 = 2;

/// Buffers for activations, gradients and the kernels' own use.
#[derive(Debug, Default)]
pub struct Workspace {
    floats: Free,
    bytes: Free,
    /// Forward passes so far.
    passes: u64,
    pub(crate) scratch: Scratch,
    /// A gradient behind a ReLU.
    pub(crate) masked: Vec<f32>,
}

/// Buffers that nobody uses, with the pass that was the last to use each.
type Free = Vec<(Tensor, u64)>;

impl Workspace {
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives gradients back that nobody will read again, so that the next step allocates none.
    pub fn recycle(&mut self, gradients: Gradients) {
        for buffer in gradients.into_buffers() {
            self.put(buffer);
        }
    }

    /// Before a forward pass: frees what the last passes did not use.
    pub(crate) fn begin(&mut self) {
        self.passes += 1;
        for free in [&mut self.floats, &mut self.bytes] {
            free.retain(|(_, used)| used + IDLE >= self.passes - 1);
        }
    }

    /// A buffer of at least `n` floats; what it holds is left over.
    pub(crate) fn take(&mut self, n: usize, device: &Device) -> Result<Tensor> {
        take(&mut self.floats, n, DType::F32, device)
    }

    /// A buffer of at least `n` bytes; what it holds is left over.
    pub(crate) fn take_bytes(&mut self, n: usize, device: &Device) -> Result<Tensor> {
        take(&mut self.bytes, n, DType::U8, device)
    }

    pub(crate) fn put(&mut self, buffer: Tensor) {
        let free = match buffer.dtype() {
            DType::U8 => &mut self.bytes,
            _ => &mut self.floats,
        };
        free.push((buffer, self.passes));
    }
}

/// The smallest buffer that is large enough, and at most twice as large as needed; or a new one.
fn take(free: &mut Free, n: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let size = |at: &usize| free[*at].0.elem_count();
    let fitting = (0..free.len())
        .filter(|at| (n..=2 * n).contains(&size(at)))
        .filter(|at| free[*at].0.device().same_device(device))
        .min_by_key(size);
    match fitting {
        Some(at) => Ok(free.swap_remove(at).0),
        None => empty(n, dtype, device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::layer::Layer;
    use crate::nn::network::{Builder, Network, Wanted};
    use crate::nn::op::{read, read_bytes, tensor};
    use crate::nn::{ImageShape, Mode};

    impl Workspace {
        /// Bytes of buffers that wait to be used again.
        fn held(&self) -> usize {
            let sizes = self.floats.iter().chain(&self.bytes);
            sizes
                .map(|(buffer, _)| buffer.elem_count() * buffer.dtype().size_in_bytes())
                .sum()
        }
    }

    fn network() -> Network {
        let input = ImageShape {
            channels: 1,
            height: 8,
            width: 8,
        };
        let layers = vec![
            (
                "normalize",
                Layer::Normalize {
                    mean: vec![0.5],
                    std: vec![0.5],
                },
            ),
            ("conv", Layer::conv3x3(4, 1, 1)),
            ("relu", Layer::Relu),
            ("flatten", Layer::Flatten),
            ("fc", Layer::linear(10)),
        ];
        let mut builder = Builder::new("small", input, 10, 1);
        builder.chain(layers).unwrap();
        builder.finish().unwrap()
    }

    fn images(batch: usize) -> Tensor {
        tensor(vec![0.25; batch * 64], &[batch, 1, 8, 8]).unwrap()
    }

    fn train(network: &Network, batch: usize, workspace: &mut Workspace) {
        let trace = network
            .forward(&images(batch), Mode::Train, workspace)
            .unwrap();
        let d_logits = tensor(vec![0.1; batch * 10], &[batch, 10]).unwrap();
        let gradients = trace.backward(&d_logits, Wanted::PARAMETERS).unwrap();
        drop(trace);
        workspace.recycle(gradients);
    }

    fn evaluate(network: &Network, batch: usize, workspace: &mut Workspace) {
        let images = images(batch);
        network.forward(&images, Mode::Eval, workspace).unwrap();
    }

    /// As a training goes: batches, a smaller last one, then validation; and again.
    #[test]
    fn what_other_batch_sizes_needed_is_freed() {
        let network = network();
        let mut alone = Workspace::new();
        for _ in 0..4 {
            train(&network, 64, &mut alone);
        }
        let of_training = alone.held();
        let mut alone = Workspace::new();
        for _ in 0..4 {
            evaluate(&network, 250, &mut alone);
        }
        let of_validation = alone.held();
        assert!(of_training > 64 * 64 * 4 * 4 && of_validation > 250 * 64 * 4 * 4);

        let mut workspace = Workspace::new();
        for _ in 0..5 {
            for batch in [64, 64, 64, 64, 64, 13] {
                train(&network, batch, &mut workspace);
            }
            assert!(workspace.held() <= of_training + of_training / 4);
            for _ in 0..4 {
                evaluate(&network, 250, &mut workspace);
            }
            assert!(workspace.held() <= of_validation + of_validation / 4);
        }
        for _ in 0..4 {
            train(&network, 64, &mut workspace);
        }
        assert!(workspace.held() <= of_training + of_training / 4);
    }

    #[test]
    fn buffers_begin_where_a_cache_line_does() {
        let mut workspace = Workspace::new();
        for n in [1, 5, 100, 100_000] {
            let floats = workspace.take(n, &Device::Cpu).unwrap();
            let bytes = workspace.take_bytes(n, &Device::Cpu).unwrap();
            assert_eq!((floats.elem_count(), bytes.elem_count()), (n, n));
            let (floats, bytes) = (read(&floats).unwrap(), read_bytes(&bytes).unwrap());
            assert_eq!(floats.as_ptr().addr() % 64, 0);
            assert_eq!(bytes.as_ptr().addr() % 64, 0);
        }
    }

    #[test]
    fn sizes_that_alternate_keep_their_buffers() {
        let network = network();
        let mut workspace = Workspace::new();
        let mut held = Vec::new();
        for _ in 0..4 {
            train(&network, 8, &mut workspace);
            train(&network, 64, &mut workspace);
            held.push(workspace.held());
        }
        let mut alone = Workspace::new();
        train(&network, 64, &mut alone);
        assert!(held[3] > alone.held());
        assert_eq!(held, vec![held[0]; 4]);
    }
}
