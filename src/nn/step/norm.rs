//! A step's batch normalization: by itself, or folded into the convolution before it.

use candle_core::Tensor;

use super::Fused;
use crate::nn::layer::Layer;
use crate::nn::network::{Network, Node};
use crate::nn::op::batch_norm2d::{self, Affine, Statistics};
use crate::nn::op::{read, write};
use crate::nn::{Mode, Result, invalid};

/// What a convolution's weights are multiplied by, and what is added, per output.
#[derive(Default)]
pub(super) struct Constants {
    pub(super) scale: Option<Vec<f32>>,
    pub(super) shift: Option<Vec<f32>>,
}

impl Constants {
    pub(super) fn of(network: &Network, fused: &Fused<'_>) -> Result<Self> {
        let bias = match fused.main.parameters.get(1) {
            Some(at) => Some(read(&network.parameters().at(*at).value)?.to_vec()),
            None => None,
        };
        let Some(norm) = fused.norm else {
            return Ok(Self {
                scale: None,
                shift: bias,
            });
        };
        let (scale, mut shift) = Norm::of(network, norm)?.fold();
        for ((shift, scale), bias) in shift.iter_mut().zip(&scale).zip(bias.iter().flatten()) {
            *shift += scale * bias;
        }
        Ok(Self {
            scale: Some(scale),
            shift: Some(shift),
        })
    }
}

/// The parameters of a batch normalization.
pub(super) struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    epsilon: f64,
}

impl Norm {
    pub(super) fn of(network: &Network, node: &Node) -> Result<Self> {
        let Layer::BatchNorm2d { epsilon, .. } = node.layer else {
            return Err(invalid(format!("{} does not normalize batches", node.name)));
        };
        let values = |at: usize| -> Result<Vec<f32>> {
            Ok(read(&network.parameters().at(node.parameters[at]).value)?.to_vec())
        };
        Ok(Self {
            weight: values(0)?,
            bias: values(1)?,
            mean: values(2)?,
            variance: values(3)?,
            epsilon,
        })
    }

    fn affine(&self) -> Affine<'_> {
        Affine {
            weight: &self.weight,
            bias: &self.bias,
            epsilon: self.epsilon,
        }
    }

    fn fold(&self) -> (Vec<f32>, Vec<f32>) {
        batch_norm2d::fold(&self.affine(), &self.mean, &self.variance)
    }

    pub(super) fn forward(
        &self,
        mode: Mode,
        x: &[f32],
        residual: Option<&[f32]>,
        relu: bool,
        y: &Tensor,
    ) -> Result<Option<Statistics>> {
        match mode {
            Mode::Train => {
                let of = |y: &mut [f32]| {
                    batch_norm2d::forward_train(&self.affine(), x, residual, relu, y)
                };
                write(y, of).map(Some)
            }
            Mode::Eval => {
                let (scale, shift) = self.fold();
                write(y, |y| {
                    batch_norm2d::forward_eval(&scale, &shift, x, residual, relu, y);
                })?;
                Ok(None)
            }
        }
    }

    pub(super) fn backward(
        &self,
        mode: Mode,
        statistics: Option<&Statistics>,
        saved: batch_norm2d::Saved<'_>,
        flow: batch_norm2d::Flow<'_>,
        wanted: batch_norm2d::Wanted<'_>,
    ) -> Result<()> {
        match (mode, statistics) {
            (Mode::Train, Some(statistics)) => {
                batch_norm2d::backward_train(&self.affine(), statistics, saved, flow, wanted);
            }
            (Mode::Train, None) => return Err(invalid("a batch's statistics were not kept")),
            (Mode::Eval, _) => {
                let (scale, shift) = self.fold();
                let running = Some((&*self.mean, &*self.variance, self.epsilon));
                batch_norm2d::backward_eval((&scale, &shift), running, saved, flow, wanted);
            }
        }
        Ok(())
    }

    /// From the gradients of the folded weights and shift to those of the four parameters that they are made of.
    ///
    /// With s = γ / σ: dW = s dW', db = s dβ, and dγ = Σ dy (Wx + b - mean) / σ, where Σ dy Wx = Σ W dW'.
    pub(super) fn unfold(
        &self,
        w: &[f32],
        b: Option<&[f32]>,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
        d_scale: Option<&mut [f32]>,
        d_shift: &[f32],
    ) {
        let depth = w.len() / self.weight.len();
        let deviation = |o: usize| (f64::from(self.variance[o]) + self.epsilon).sqrt();
        if let Some(d_scale) = d_scale {
            let rows = w.chunks_exact(depth).zip(dw.chunks_exact(depth));
            for (o, (d_scale, (w, dw))) in d_scale.iter_mut().zip(rows).enumerate() {
                let product: f64 = w
                    .iter()
                    .zip(dw)
                    .map(|(w, dw)| f64::from(*w) * f64::from(*dw))
                    .sum();
                let offset = f64::from(b.map_or(0.0, |b| b[o])) - f64::from(self.mean[o]);
                *d_scale = ((product + offset * f64::from(d_shift[o])) / deviation(o)) as f32;
            }
        }
        let (scale, _) = self.fold();
        for (dw, scale) in dw.chunks_exact_mut(depth).zip(&scale) {
            for dw in dw {
                *dw *= scale;
            }
        }
        for (db, (shift, scale)) in db.into_iter().flatten().zip(d_shift.iter().zip(&scale)) {
            *db = shift * scale;
        }
    }
}
