//! Memory that is used again from step to step.
//!
//! Passes take buffers and give them back when they are over, so that a training step allocates nothing after the first.
//! Batches of another size need other buffers: those that nobody takes any more are freed.
//!
//! Passes that take the same sizes in the same order get the same buffers, whatever came before: a GPU then sees the same
//! addresses, step after step.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, TensorId};

use super::network::Network;
use super::op::{Scratch, lasting};
use super::repeat::Repeated;
use super::trace::{Gradients, Keep, Trace};
use super::{Mode, Result};

/// Passes in a row without use after which a buffer is freed: two kinds of passes that alternate keep theirs.
const IDLE: u64 = 2;

/// Buffers for activations, gradients and the kernels' own use.
#[derive(Debug, Default)]
pub struct Workspace {
    floats: Free,
    bytes: Free,
    /// Forward passes so far.
    passes: u64,
    /// In which order the buffers were made.
    numbers: HashMap<TensorId, u64>,
    made: u64,
    pub(crate) repeated: Repeated,
    pub(crate) scratch: Scratch,
    /// A gradient behind a ReLU.
    pub(crate) masked: Vec<f32>,
}

/// A network that is only asked, not written to, as long as this is held: what its kernels make of the weights, panels
/// and Winograd's transforms, is made in the first pass and used again in all later ones. The same bits come out.
///
/// One image at a time, that was most of a pass: the transforms of `resnet18`'s 11 million weights take longer than its
/// products.
#[derive(Debug)]
pub struct Frozen<'n> {
    network: &'n Network,
    workspace: Workspace,
}

impl<'n> Frozen<'n> {
    /// Holds a network; `workspace` is memory to be used again, and may be empty.
    pub fn new(network: &'n Network, mut workspace: Workspace) -> Self {
        workspace.scratch.keep();
        Self { network, workspace }
    }

    pub fn network(&self) -> &'n Network {
        self.network
    }

    /// The forward pass in evaluation mode. `images` are (B, C, H, W) in [0, 1].
    pub fn forward(&mut self, images: &Tensor) -> Result<Trace<'_>> {
        self.trace(images, Keep::Nothing)
    }

    /// The logits alone, (B, K), until the next work is repeated here.
    pub fn logits(&mut self, images: &Tensor) -> Result<Tensor> {
        let batch = images.dims().first().copied().unwrap_or_default();
        self.repeat(batch, |network| {
            Ok(network.forward(images)?.logits().clone())
        })
    }

    /// Likewise, with a say in what is kept.
    pub fn trace(&mut self, images: &Tensor, keep: Keep) -> Result<Trace<'_>> {
        self.network
            .trace(images, Mode::Eval, keep, &mut self.workspace)
    }

    /// Gives gradients back that nobody will read again.
    pub fn recycle(&mut self, gradients: Gradients) {
        self.workspace.recycle(gradients);
    }

    /// As [`Workspace::repeat`].
    ///
    /// # Errors
    /// As there.
    pub fn repeat<R>(
        &mut self,
        size: usize,
        work: impl FnOnce(&mut Self) -> Result<R>,
    ) -> Result<R> {
        let mut repeated = std::mem::take(&mut self.workspace.repeated);
        let device = self.network.device();
        let done = repeated.run(&device, size, || work(self));
        self.workspace.repeated = repeated;
        done
    }

    /// The memory, for other uses; what was made of the weights is given up.
    pub fn thaw(mut self) -> Workspace {
        self.workspace.scratch.forget();
        self.workspace
    }
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

    /// Does work that is asked for again and again with batches of that size: a GPU is asked for all of it at once. Tensors
    /// that the work makes must be gone before it is done again; gradients that come back here are.
    ///
    /// # Errors
    /// The work's, and candle's.
    pub fn repeat<R>(
        &mut self,
        device: &Device,
        size: usize,
        work: impl FnOnce(&mut Self) -> Result<R>,
    ) -> Result<R> {
        let mut repeated = std::mem::take(&mut self.repeated);
        let done = repeated.run(device, size, || work(self));
        self.repeated = repeated;
        done
    }

    /// Before a forward pass: frees what the last passes did not use.
    pub(crate) fn begin(&mut self) {
        self.passes += 1;
        let Self {
            floats,
            bytes,
            passes,
            numbers,
            ..
        } = self;
        for free in [floats, bytes] {
            free.retain(|(buffer, used)| {
                let stays = used + IDLE >= *passes - 1;
                if !stays {
                    numbers.remove(&buffer.id());
                }
                stays
            });
        }
    }

    /// A buffer of at least `n` floats; what it holds is left over.
    pub(crate) fn take(&mut self, n: usize, device: &Device) -> Result<Tensor> {
        self.taken(n, DType::F32, device)
    }

    /// A buffer of at least `n` bytes; what it holds is left over.
    pub(crate) fn take_bytes(&mut self, n: usize, device: &Device) -> Result<Tensor> {
        self.taken(n, DType::U8, device)
    }

    pub(crate) fn put(&mut self, buffer: Tensor) {
        let passes = self.passes;
        self.free(buffer.dtype()).push((buffer, passes));
    }

    fn free(&mut self, dtype: DType) -> &mut Free {
        match dtype {
            DType::U8 => &mut self.bytes,
            _ => &mut self.floats,
        }
    }

    /// The smallest buffer that is large enough, and at most twice as large as needed, the oldest of equals; or a new one.
    fn taken(&mut self, n: usize, dtype: DType, device: &Device) -> Result<Tensor> {
        let numbers = &self.numbers;
        let free = match dtype {
            DType::U8 => &self.bytes,
            _ => &self.floats,
        };
        let fitting = free
            .iter()
            .enumerate()
            .filter(|(_, (buffer, _))| (n..=2 * n).contains(&buffer.elem_count()))
            .filter(|(_, (buffer, _))| buffer.device().same_device(device))
            .min_by_key(|(_, (buffer, _))| (buffer.elem_count(), numbers.get(&buffer.id())));
        if let Some((at, _)) = fitting {
            return Ok(self.free(dtype).swap_remove(at).0);
        }
        let made = lasting(n, dtype, device)?;
        self.numbers.insert(made.id(), self.made);
        self.made += 1;
        Ok(made)
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

    /// Every way through a convolution: narrow, Winograd's, with a stride; and linear ones.
    fn several_ways(seed: u64) -> Network {
        let input = ImageShape {
            channels: 3,
            height: 16,
            width: 16,
        };
        let normalize = Layer::Normalize {
            mean: vec![0.5; 3],
            std: vec![0.5; 3],
        };
        let layers = vec![
            ("normalize", normalize),
            ("conv1", Layer::conv3x3(64, 1, 1)),
            ("norm", Layer::batch_norm()),
            ("relu1", Layer::Relu),
            ("conv2", Layer::conv3x3(64, 1, 1)),
            ("relu2", Layer::Relu),
            ("conv3", Layer::conv3x3(48, 2, 1)),
            ("flatten", Layer::Flatten),
            ("fc", Layer::linear(10)),
        ];
        let mut builder = Builder::new("ways", input, 10, seed);
        builder.chain(layers).unwrap();
        builder.finish().unwrap()
    }

    fn asked(network: &Network, images: &Tensor) -> (Vec<f32>, Vec<f32>) {
        let mut workspace = Workspace::new();
        let trace = network.trace(images, Mode::Eval, Keep::Gradients, &mut workspace);
        answers(&trace.unwrap())
    }

    /// Logits, and the gradient of one direction with respect to the images.
    fn answers(trace: &Trace<'_>) -> (Vec<f32>, Vec<f32>) {
        let n = trace.logits().elem_count();
        let direction = (0..n).map(|at| (at % 7) as f32 - 3.0).collect();
        let d_logits = tensor(direction, &[n / 10, 10]).unwrap();
        let gradients = trace.backward(&d_logits, Wanted::INPUT).unwrap();
        let of = |tensor: &Tensor| crate::nn::op::values(tensor).unwrap();
        (of(trace.logits()), of(&gradients.input.unwrap()))
    }

    #[test]
    fn a_network_that_stays_as_it_is_answers_with_the_same_bits() {
        let images = |batch: usize| {
            let values = (0..batch * 768).map(|at| (at * 37 % 101) as f32 / 100.0);
            tensor(values.collect(), &[batch, 3, 16, 16]).unwrap()
        };
        let (one, other) = (several_ways(1), several_ways(2));
        let mut workspace = Workspace::new();
        // Memory goes from network to network, and what was made of weights does not.
        for network in [&one, &other, &one] {
            let mut frozen = Frozen::new(network, workspace);
            for batch in [1, 5, 1, 3] {
                let images = images(batch);
                let found = answers(&frozen.trace(&images, Keep::Gradients).unwrap());
                assert_eq!(found, asked(network, &images), "{batch} images");
                let logits = frozen.forward(&images).unwrap().logits().clone();
                assert_eq!(crate::nn::op::values(&logits).unwrap(), found.0);
            }
            workspace = frozen.thaw();
        }
        // And none of it outlives a thaw.
        let trace = other
            .forward(&images(2), Mode::Eval, &mut workspace)
            .unwrap();
        let found = crate::nn::op::values(trace.logits()).unwrap();
        assert_eq!(found, asked(&other, &images(2)).0);
    }
}
