//! Projected gradient descent: many small steps along the signs of the loss's gradient, each back into the budget.
//!
//! x_0 = x, or clamp(x + u, 0, 1) with u uniform in [-ε, ε]; x_{i+1} = clamp(x + clamp(x_i + α sign(∇CE) - x, -ε, ε), 0, 1).
//! Madry et al. 2018, arXiv:1706.06083; L-infinity, in pixels. Images are (B, C, H, W) in [0, 1].
//! The network is asked in evaluation mode: its running statistics are used and not moved. Where a network has levels,
//! the gradient is the straight-through estimator's.

use candle_core::Tensor;

use crate::nn::loss::{Labels, Objective, of_step};
use crate::nn::network::{Keep, Network, Wanted, Workspace};
use crate::nn::op::add::sum_up;
use crate::nn::op::sign_step::{self, Lengths};
use crate::nn::op::{tensor, to_device};
use crate::nn::rng::Rng;
use crate::nn::{Mode, Result};

/// Where the first step begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the image itself.
    Image,
    /// Anywhere in the budget.
    #[default]
    Uniform,
}

/// Budget and steps, in units of the pixels' range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pgd {
    pub epsilon: f64,
    /// Length of a step, α.
    pub step: f64,
    pub steps: u32,
    pub start: Start,
}

impl Pgd {
    /// Images near these on which the network's cross-entropy is larger. `streams` gives each image of the batch its own
    /// stream of chance, so that batching changes nothing; it is asked only where chance is needed.
    ///
    /// # Errors
    /// candle's, when memory runs out.
    pub fn attack(
        &self,
        network: &Network,
        images: &Tensor,
        labels: &Labels,
        streams: &mut dyn FnMut(usize) -> Rng,
        workspace: &mut Workspace,
    ) -> Result<Tensor> {
        let whole = images.dim(0)?;
        let radius = self.epsilon as f32;
        let mut attacked = images.copy()?;
        let mut next = images.copy()?;
        if self.start == Start::Uniform && self.epsilon > 0.0 {
            let each = images.elem_count() / whole;
            let noise = (0..whole).flat_map(|at| {
                let mut rng = streams(at);
                (0..each).map(move |_| rng.between(-self.epsilon, self.epsilon) as f32)
            });
            let noise = tensor(noise.collect(), images.dims())?;
            sum_up(&attacked, &to_device(&noise, images.device())?)?;
            // A step of no length leads back into the pixels' range.
            let lengths = Lengths { step: 0.0, radius };
            sign_step::step(lengths, images, &attacked, images, &next)?;
            std::mem::swap(&mut attacked, &mut next);
        }
        for _ in 0..self.steps {
            let gradient = gradient(network, &attacked, labels, workspace)?;
            let step = self.step as f32;
            sign_step::step(
                Lengths { step, radius },
                images,
                &attacked,
                &gradient,
                &next,
            )?;
            std::mem::swap(&mut attacked, &mut next);
        }
        Ok(attacked)
    }
}

/// The gradient of the batch's mean cross-entropy with respect to the images, in evaluation mode.
///
/// # Errors
/// candle's, when memory runs out.
pub fn gradient(
    network: &Network,
    images: &Tensor,
    labels: &Labels,
    workspace: &mut Workspace,
) -> Result<Tensor> {
    let trace = network.trace(images, Mode::Eval, Keep::Gradients, workspace)?;
    let objective = Objective::Labels { smoothing: 0.0 };
    let loss = of_step(objective, trace.logits(), labels, images.dim(0)?)?;
    let mut gradients = trace.backward(&loss.d_logits, Wanted::INPUT)?;
    drop(trace);
    let gradient = gradients.input.take();
    workspace.recycle(gradients);
    gradient.ok_or_else(|| crate::nn::invalid("a backward pass gave no gradient of the images"))
}
