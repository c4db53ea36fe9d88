//! Quantization-aware training: a network learns while its weights and activations are rounded.
//!
//! The optimizer keeps and steps unrounded weights; the network computes with rounded ones, and gradients pass rounding as if
//! it were not there inside the range, and not at all outside (Bengio et al. 2013, arXiv:1308.3432).
//! - `straight-through`: the levels of weights follow them, s = max|w| / q_max after each step; those of activations stay
//!   where calibration put them. Jacob et al. 2018, arXiv:1712.05877, section 3.
//! - `learned-step`: every s is learned, by ∂x̂/∂s = round(x / s) - x / s inside the range, q_min or q_max outside, times
//!   1 / √(n q_max); it begins at 2 mean|x| / √q_max. Esser et al. 2020 (LSQ), arXiv:1902.08153.
//!
//! With 2 bits, levels that follow the largest weight round nearly all others to 0: there steps are better learned.
//!
//! Batch normalizations are folded before with the statistics of use.
//! Deviations: Jacob et al. fold with each batch's statistics and let ranges of activations follow at first; LSQ leaves
//! the first and the last layer at 8 bits, and here weights are restricted to ±q_max as everywhere.

use crate::catalog::{Entry, Info, Knob, Range, completed, text};
use crate::event::Event;
use crate::lab::compression::{Compressed, Compression, Start};
use crate::lab::context::{Context, Halfway, HalfwayMut, Observer, Restored};
use crate::lab::error::{Error, Result};
use crate::lab::quantization::calibration::Sample;
use crate::lab::quantization::knobs::{self, Bits};
use crate::lab::quantization::levels::{Symmetry, Weights, asymmetric, symmetric};
use crate::lab::quantization::places::{parameter, stored, weighted};
use crate::lab::quantization::ranges::{Rule, Seen};
use crate::lab::quantization::{Activations, begun, round_biases};
use crate::lab::train::{Objective, Recipe, Training, train};
use crate::nn::network::Network;
use crate::nn::op::fake_quant::{LEAST_SCALE, Levels};
use crate::nn::parameters::{Moves, ParameterRole, RowLevels};

pub const ENTRY: Entry<dyn Compression> = Entry {
    info: Info {
        id: text("quantization-aware-training"),
        title: text("Quantization-aware training"),
        summary: text(
            "Trains on with weights and activations rounded to the levels of small integers. Simulated in 32-bit floats: \
             the bytes are those of packed integers, the latency is not that of integer arithmetic.",
        ),
        reference: text("arXiv:1712.05877"),
        family: text("quantization"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        let setting = &completed(setting, KNOBS);
        Box::new(QuantizationAwareTraining {
            bits: Bits::new(setting),
            learns_steps: setting.choice("steps") == "learned-step",
            per_channel: knobs::is_per_channel(setting),
            rule: knobs::rule(setting),
            images: setting.integer("calibration-images") as usize,
            folds: setting.flag("fold"),
            epochs: setting.integer("epochs") as u32,
            rate: setting.real("rate"),
        })
    },
};

const KNOBS: &[Knob] = &[
    knobs::BITS,
    knobs::ACTIVATION_BITS,
    Knob {
        id: text("epochs"),
        title: text("epochs"),
        summary: text("How often the rounded network sees every training image."),
        range: Range::Integer {
            least: 1,
            most: 10_000,
            default: 3,
        },
    },
    Knob {
        id: text("steps"),
        title: text("step sizes"),
        summary: text(
            "Whether levels follow the largest weights, or the distance between levels is learned (LSQ), better at 2 bits.",
        ),
        range: Range::Choice {
            options: std::borrow::Cow::Borrowed(&[text("straight-through"), text("learned-step")]),
            default: text("straight-through"),
        },
    },
    Knob {
        id: text("rate"),
        title: text("rate"),
        // Esser et al. 2020, section 3: 0.01 where the network itself was trained with 0.1.
        summary: text("Share of the reference's learning rate; a tenth as published for LSQ."),
        range: Range::Real {
            least: 0.001,
            most: 1.0,
            step: 0.05,
            default: 0.1,
        },
    },
    knobs::GRANULARITY,
    knobs::RANGE,
    knobs::PERCENTILE,
    knobs::IMAGES,
    knobs::FOLD,
];

struct QuantizationAwareTraining {
    bits: Bits,
    learns_steps: bool,
    per_channel: bool,
    rule: Rule,
    /// Calibration images.
    images: usize,
    folds: bool,
    epochs: u32,
    /// Share of the reference's learning rate.
    rate: f64,
}

impl Compression for QuantizationAwareTraining {
    fn compress(
        &self,
        start: &Start<'_>,
        observer: &mut dyn Observer,
        cx: &mut Context<'_>,
    ) -> Result<Compressed> {
        let (mut network, done) = begun(start, self.folds)?;
        let sample = Sample::of(start, self.images);
        let mut remarks = vec![self.summary(sample.indices.len())];
        remarks.extend(done);
        if let Some(bits) = self.bits.activations {
            let places = stored(&network);
            let seen = sample.seen(&network, &places, self.rule, cx)?;
            let activations = Activations {
                levels: seen
                    .iter()
                    .map(|seen| self.activation(seen, bits))
                    .collect(),
                places: places
                    .iter()
                    .map(|&place| network.nodes()[place].name.clone())
                    .collect(),
            };
            activations.insert(&mut network)?;
        }
        for at in weighted(&network) {
            let name = parameter(&network, at, ParameterRole::Weight).ok_or_else(|| {
                Error::Internal(format!("{} has no weights", network.nodes()[at].name))
            })?;
            let values = network.parameters().values(&name)?;
            let levels = self.weight(&values, network.shape(at)[0]);
            network.parameters_mut().train_on(&name, levels)?;
        }
        if self.learns_steps {
            network.learn_steps()?;
        }
        let recipe = Recipe {
            epochs: self.epochs,
            learning_rate: start.recipe.learning_rate * self.rate,
            ..start.recipe.clone()
        };
        let training = Training {
            data: start.subject.data,
            recipe: &recipe,
            objective: Objective::Classify,
            order_seed: start.subject.network.order_seed,
            life: start.life,
            adjust: None,
        };
        let mut trained = train(&mut network, &training, &mut Settled(observer), cx)?;
        for network in [&mut network, &mut trained.best] {
            settle(network)?;
        }
        remarks.push(
            "biases were rounded after the training; gradients passed roundings straight through inside their ranges"
                .to_owned(),
        );
        remarks.push(
            "simulated: computed in 32-bit floats; bytes are those of packed integers; at 8 bits and fewer the latency of \
             integer arithmetic is measured beside it (int8)"
                .to_owned(),
        );
        Ok(Compressed {
            network,
            best: Some(trained.best),
            asked: None,
            reached: None,
            remarks,
            cost: trained.cost,
            life: trained.life,
        })
    }

    fn epochs(&self) -> u32 {
        self.epochs
    }
}

/// Looks at the network of each epoch as it would be kept: with its steps settled and its biases rounded.
struct Settled<'o>(&'o mut dyn Observer);

impl Observer for Settled<'_> {
    fn epoch_ended(&mut self, network: &Network, epoch: u32, cx: &mut Context<'_>) -> Result<()> {
        let mut network = network.duplicate()?;
        settle(&mut network)?;
        self.0.epoch_ended(&network, epoch, cx)
    }

    fn epoch_restored(&mut self, epoch: u32, cx: &mut Context<'_>) -> Result<()> {
        self.0.epoch_restored(epoch, cx)
    }

    fn save(&mut self, at: &Halfway<'_>, facts: &[Event]) -> Result<()> {
        self.0.save(at, facts)
    }

    fn restore(&mut self, into: &mut HalfwayMut<'_>) -> Result<Option<Restored>> {
        self.0.restore(into)
    }
}

/// As the network is kept.
fn settle(network: &mut Network) -> Result<()> {
    network.settle_steps()?;
    round_biases(network)?;
    Ok(())
}

impl QuantizationAwareTraining {
    fn summary(&self, images: usize) -> String {
        let steps = if self.learns_steps {
            "learned"
        } else {
            "following the weights"
        };
        let activations = match self.bits.activations {
            Some(bits) => {
                format!("activations with {bits} bits, begun on {images} training images")
            }
            None => "activations stay floats".to_owned(),
        };
        let epochs = match self.epochs {
            1 => "1 epoch".to_owned(),
            epochs => format!("{epochs} epochs"),
        };
        format!(
            "weights with {} bits, {}, {steps}; {activations}; trained for {epochs} at {} of the reference's rate",
            self.bits.weights,
            knobs::granularity(self.per_channel),
            self.rate
        )
    }

    /// The levels that the activations at a place begin with. Those that are learned have no zero point: they reach to one
    /// side of 0 where all that was seen does, and to both elsewhere.
    fn activation(&self, seen: &Seen, bits: u32) -> Levels {
        if !self.learns_steps {
            return asymmetric(seen.range(self.rule, bits), bits);
        }
        let levels = if seen.least >= 0.0 {
            asymmetric((0.0, seen.greatest), bits)
        } else {
            symmetric(seen.greatest.max(-seen.least), bits)
        };
        Levels {
            scale: first_step(seen.mean_magnitude(), levels.q_max),
            ..levels
        }
    }

    /// The levels that weights begin with.
    fn weight(&self, values: &[f32], channels: usize) -> RowLevels {
        let weights = Weights {
            bits: self.bits.weights,
            symmetry: Symmetry::Symmetric,
            per_channel: self.per_channel,
            least_error: false,
        };
        let mut levels = weights.levels(values, channels);
        if !self.learns_steps {
            return levels.moving(Moves::Follow);
        }
        let run = levels.run(values.len());
        let rows = levels.all().iter().zip(values.chunks(run));
        let steps: Vec<f32> = rows
            .map(|(levels, row)| {
                let sum: f64 = row.iter().map(|v| f64::from(v.abs())).sum();
                first_step((sum / row.len().max(1) as f64) as f32, levels.q_max)
            })
            .collect();
        levels.rescale(&steps);
        levels.moving(Moves::Learn)
    }
}

/// LSQ's first step: 2 mean|x| / √q_max.
fn first_step(mean: f32, q_max: i32) -> f32 {
    (2.0 * mean / (q_max as f32).sqrt()).max(LEAST_SCALE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: the mean of (1, 2, 3, 6) is 3, and 7 is the largest integer of 4 bits.
    #[test]
    fn learned_steps_begin_as_published() {
        assert!((first_step(3.0, 7) - 6.0 / 7.0_f32.sqrt()).abs() < 1e-6);
    }
}
