//! Post-training quantization: weights and activations are rounded to a few levels, without training.
//!
//! q = clamp(round(x / s) + z, q_min, q_max), x̂ = s (q - z), halves to even; Jacob et al. 2018, arXiv:1712.05877.
//! In order: batch normalizations are folded, layers equalized, ranges of activations looked up on training images before
//! anything is rounded, weights rounded (to the nearest level, or as AdaRound learns), biases corrected and rounded.
//! Levels and their ranges: [`crate::lab::quantization`]. Weights from 2 bits, which are ternary, to 16.

use crate::catalog::{Entry, Info, Knob, Range, completed, text};
use crate::event::Cost;
use crate::lab::compression::{Compressed, Compression, Start};
use crate::lab::context::{Context, Observer};
use crate::lab::error::{Error, Result};
use crate::lab::quantization::calibration::Sample;
use crate::lab::quantization::knobs::{self, Bits};
use crate::lab::quantization::levels::{Symmetry, Weights, asymmetric};
use crate::lab::quantization::places::{parameter, stored, weighted};
use crate::lab::quantization::ranges::Rule;
use crate::lab::quantization::{
    Activations, begun, bias_correction, equalization, round_biases, rounding,
};
use crate::nn::network::Network;
use crate::nn::parameters::ParameterRole;

pub const ENTRY: Entry<dyn Compression> = Entry {
    info: Info {
        id: text("post-training-quantization"),
        title: text("Post-training quantization"),
        summary: text(
            "Rounds weights and activations to the levels of small integers, without training. Simulated in 32-bit \
             floats: the bytes are those of packed integers, the latency is not that of integer arithmetic.",
        ),
        reference: text("arXiv:1712.05877"),
        family: text("quantization"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        let setting = &completed(setting, KNOBS);
        Box::new(PostTrainingQuantization {
            bits: Bits::new(setting),
            weights: knobs::weights(setting),
            rule: knobs::rule(setting),
            images: setting.integer("calibration-images") as usize,
            folds: setting.flag("fold"),
            equalizes: setting.flag("equalize"),
            corrects: setting.flag("bias-correction"),
            adaround: setting
                .flag("adaround")
                .then(|| setting.integer("adaround-steps") as u64),
        })
    },
};

const KNOBS: &[Knob] = &[
    knobs::BITS,
    knobs::ACTIVATION_BITS,
    knobs::GRANULARITY,
    knobs::SYMMETRY,
    knobs::WEIGHT_RANGE,
    knobs::RANGE,
    knobs::PERCENTILE,
    knobs::IMAGES,
    knobs::FOLD,
    Knob {
        id: text("equalize"),
        title: text("equalize layers"),
        summary: text(
            "Moves factors between layers so that their channels have like ranges, before rounding.",
        ),
        range: Range::Flag { default: false },
    },
    Knob {
        id: text("bias-correction"),
        title: text("bias correction"),
        summary: text(
            "Takes back from each bias what rounding added to the mean of its layer, on the calibration images.",
        ),
        range: Range::Flag { default: false },
    },
    Knob {
        id: text("adaround"),
        title: text("learned rounding"),
        summary: text(
            "AdaRound: learns for each weight whether it goes up or down, layer by layer. Takes minutes.",
        ),
        range: Range::Flag { default: false },
    },
    Knob {
        id: text("adaround-steps"),
        title: text("steps of learned rounding"),
        summary: text(
            "Steps of AdaRound for each layer, of 32 calibration images; it was published with 10,000.",
        ),
        range: Range::Integer {
            least: 1,
            most: 100_000,
            default: 1_000,
        },
    },
];

struct PostTrainingQuantization {
    bits: Bits,
    weights: Weights,
    rule: Rule,
    /// Calibration images.
    images: usize,
    folds: bool,
    equalizes: bool,
    corrects: bool,
    /// Steps of AdaRound.
    adaround: Option<u64>,
}

impl Compression for PostTrainingQuantization {
    fn is_live(&self) -> bool {
        self.adaround.is_none()
    }

    fn compress(
        &self,
        start: &Start<'_>,
        _: &mut dyn Observer,
        cx: &mut Context<'_>,
    ) -> Result<Compressed> {
        let (mut floats, done) = begun(start, self.folds)?;
        let sample = Sample::of(start, self.images);
        let mut remarks = vec![self.summary(sample.indices.len())];
        remarks.extend(done);
        if self.equalizes {
            let layers = equalization::equalize(&mut floats)?;
            remarks.push(format!("the ranges of {layers} layers were equalized"));
        }
        let mut network = floats.duplicate()?;
        if let Some(bits) = self.bits.activations {
            let places = stored(&floats);
            let seen = sample.seen(&floats, &places, self.rule, cx)?;
            let levels = seen
                .iter()
                .map(|seen| asymmetric(seen.range(self.rule, bits), bits));
            let activations = Activations {
                levels: levels.collect(),
                places: places
                    .iter()
                    .map(|&place| floats.nodes()[place].name.clone())
                    .collect(),
            };
            activations.insert(&mut network)?;
        }
        round_weights(&mut network, self.weights)?;
        if let Some(steps) = self.adaround {
            let seed = start.subject.seed;
            rounding::learn(&mut network, &floats, &sample, steps, seed, cx)?;
            remarks.push(format!(
                "AdaRound learned the rounding of each layer in {steps} steps"
            ));
        }
        if self.corrects {
            let (layers, without) = bias_correction::correct(&mut network, &floats, &sample, cx)?;
            let rest = match without {
                0 => String::new(),
                without => format!("; {without} without a bias were not"),
            };
            remarks.push(format!(
                "the biases of {layers} layers were corrected{rest}"
            ));
        }
        round_biases(&mut network)?;
        remarks.push(
            "simulated: computed in 32-bit floats; bytes are those of packed integers; at 8 bits and fewer the latency of \
             integer arithmetic is measured beside it (int8)"
                .to_owned(),
        );
        Ok(Compressed {
            network,
            best: None,
            asked: None,
            reached: None,
            remarks,
            cost: Cost::default(),
            life: start.life,
        })
    }
}

impl PostTrainingQuantization {
    fn summary(&self, images: usize) -> String {
        let levels = match self.weights.symmetry {
            Symmetry::Symmetric if self.weights.bits == 2 => ", ternary",
            Symmetry::Symmetric => "",
            Symmetry::Full => ", on all integers",
            Symmetry::Asymmetric => ", around a zero point",
        };
        let activations = match self.bits.activations {
            Some(bits) => format!(
                "activations with {bits} bits in ranges {}",
                from_images(self.rule, images)
            ),
            None => "activations stay floats".to_owned(),
        };
        format!(
            "weights with {} bits{levels}, {}; {activations}",
            self.bits.weights,
            knobs::granularity(self.weights.per_channel)
        )
    }
}

/// Where ranges came from: `of 512 training images`.
fn from_images(rule: Rule, images: usize) -> String {
    let how = match rule {
        Rule::MinMax => "",
        Rule::MovingAverage => " by a moving average",
        Rule::Percentile(percent) => &format!(" by the percentile {percent}"),
        Rule::LeastError => " of least squared error",
        Rule::Entropy => " of least entropy lost",
    };
    format!("of {images} training images{how}")
}

/// Puts every weight on the nearest of its levels, which it keeps from then on.
fn round_weights(network: &mut Network, weights: Weights) -> Result<()> {
    for at in weighted(network) {
        let name = parameter(network, at, ParameterRole::Weight).ok_or_else(|| {
            Error::Internal(format!("{} has no weights", network.nodes()[at].name))
        })?;
        let values = network.parameters().values(&name)?;
        let levels = weights.levels(&values, network.shape(at)[0]);
        network.parameters_mut().set_levels(&name, Some(levels))?;
    }
    Ok(())
}
