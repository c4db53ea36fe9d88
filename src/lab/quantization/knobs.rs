//! The knobs that methods of quantization share, and what they mean.

use std::borrow::Cow;

use crate::catalog::{Knob, Range, Text, text};
use crate::lab::quantization::levels::{Symmetry, Weights};
use crate::lab::quantization::ranges::Rule;
use crate::spec::Setting;

pub const BITS: Knob = Knob {
    id: text("bits"),
    title: text("bits"),
    summary: text(
        "Bits per weight: levels from -127 to 127 at 8; 2 bits are ternary, -1, 0 and 1; 1 would be 0 alone.",
    ),
    range: Range::Integer {
        least: 2,
        most: 16,
        default: 8,
    },
};

pub const ACTIVATION_BITS: Knob = Knob {
    id: text("activation-bits"),
    title: text("activation bits"),
    summary: text("Bits per activation: as many as the weights have, another number, or floats."),
    range: Range::Choice {
        options: Cow::Borrowed(ACTIVATIONS),
        default: text("as-weights"),
    },
};

const ACTIVATIONS: &[Text] = &[
    text("as-weights"),
    text("floats"),
    text("2"),
    text("3"),
    text("4"),
    text("5"),
    text("6"),
    text("7"),
    text("8"),
    text("9"),
    text("10"),
    text("11"),
    text("12"),
    text("13"),
    text("14"),
    text("15"),
    text("16"),
];

pub const IMAGES: Knob = Knob {
    id: text("calibration-images"),
    title: text("calibration images"),
    summary: text("Training images on which the ranges of the activations are looked up."),
    range: Range::Integer {
        least: 1,
        most: 100_000,
        default: 512,
    },
};

pub const GRANULARITY: Knob = Knob {
    id: text("granularity"),
    title: text("granularity"),
    summary: text("Whether a weight tensor has one scale, or one for each of its output channels."),
    range: Range::Choice {
        options: Cow::Borrowed(&[text("per-tensor"), text("per-channel")]),
        default: text("per-tensor"),
    },
};

pub const FOLD: Knob = Knob {
    id: text("fold"),
    title: text("fold normalization"),
    summary: text(
        "Whether batch normalizations become part of the convolutions before them first.",
    ),
    range: Range::Flag { default: true },
};

pub const SYMMETRY: Knob = Knob {
    id: text("weight-levels"),
    title: text("weight levels"),
    summary: text(
        "Symmetric and as many below 0 as above (-127 to 127), all of the integer (-128 to 127), or around a zero point.",
    ),
    range: Range::Choice {
        options: Cow::Borrowed(&[text("symmetric"), text("full"), text("asymmetric")]),
        default: text("symmetric"),
    },
};

pub const WEIGHT_RANGE: Knob = Knob {
    id: text("weight-range"),
    title: text("weight range"),
    summary: text(
        "How far the levels of weights reach: to the largest weight, or where the squared error is least.",
    ),
    range: Range::Choice {
        options: Cow::Borrowed(&[text("min-max"), text("mse")]),
        default: text("min-max"),
    },
};

pub const RANGE: Knob = Knob {
    id: text("range"),
    title: text("range"),
    summary: text(
        "How far the levels of activations reach: all that was seen, a moving average over batches, a percentile, the \
         least squared error, or the least loss of information (TensorRT's).",
    ),
    range: Range::Choice {
        options: Cow::Borrowed(&[
            text("min-max"),
            text("moving-average"),
            text("percentile"),
            text("mse"),
            text("entropy"),
        ]),
        default: text("min-max"),
    },
};

pub const PERCENTILE: Knob = Knob {
    id: text("percentile"),
    title: text("percentile"),
    summary: text(
        "With a range by percentile: per cent of the activations that lie below its upper end.",
    ),
    range: Range::Real {
        least: 90.0,
        most: 100.0,
        step: 0.01,
        default: 99.99,
    },
};

/// How many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    pub weights: u32,
    /// Floats without.
    pub activations: Option<u32>,
}

impl Bits {
    pub fn new(setting: &Setting) -> Self {
        let weights = setting.integer("bits") as u32;
        Self {
            weights,
            activations: match setting.choice("activation-bits") {
                "as-weights" => Some(weights),
                word => word.parse().ok(),
            },
        }
    }
}

/// The rule for the ranges of activations.
pub fn rule(setting: &Setting) -> Rule {
    match setting.choice("range") {
        "moving-average" => Rule::MovingAverage,
        "percentile" => Rule::Percentile(setting.real("percentile")),
        "mse" => Rule::LeastError,
        "entropy" => Rule::Entropy,
        _ => Rule::MinMax,
    }
}

/// Whether each output channel has its own levels.
pub fn is_per_channel(setting: &Setting) -> bool {
    setting.choice("granularity") == "per-channel"
}

/// The levels of weights.
pub fn weights(setting: &Setting) -> Weights {
    Weights {
        bits: setting.integer("bits") as u32,
        symmetry: match setting.choice("weight-levels") {
            "full" => Symmetry::Full,
            "asymmetric" => Symmetry::Asymmetric,
            _ => Symmetry::Symmetric,
        },
        per_channel: is_per_channel(setting),
        least_error: setting.choice("weight-range") == "mse",
    }
}

/// For a remark: `one scale per tensor`.
pub fn granularity(per_channel: bool) -> &'static str {
    if per_channel {
        "one scale per output channel"
    } else {
        "one scale per tensor"
    }
}
