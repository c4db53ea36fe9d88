//! What a ratio counts: five sizes of a network, and the strength of a compression that removes an asked share of one.
//!
//! A ratio is the share removed, 1 - size / size before. The same network answers differently to each of the five:
//! without half of its channels a layer between two such has a quarter of its weights.
//!
//! | ratio of | size |
//! |---|---|
//! | `channels` | outputs of convolutions; without any, of the linear layers before the last |
//! | `parameters` | numbers that are trained, zeros too |
//! | `nonzero` | weights of convolutions and linear layers that are not 0, beside all of them before |
//! | `macs` | multiply-accumulates of one image; a zero is multiplied like any other number |
//! | `bytes` | the file as it is written: each tensor dense, with a bitmask or in compressed rows, with names and graph |

use crate::catalog::{Knob, Range, Text, text};
use crate::lab::error::{Error, Result};
use crate::lab::storage::written_bytes;
use crate::nn::layer::Layer;
use crate::nn::network::Network;
use crate::nn::parameters::ParameterRole;

/// What a ratio counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatioOf {
    Channels,
    Parameters,
    Nonzero,
    Macs,
    Bytes,
}

/// Sizes that a compression can make smaller, for its knob.
pub const ALL: &[Text] = &[
    text("channels"),
    text("parameters"),
    text("nonzero"),
    text("macs"),
    text("bytes"),
];

/// Of one that leaves the number of channels as it is.
pub const WITHOUT_CHANNELS: &[Text] = &[
    text("parameters"),
    text("nonzero"),
    text("macs"),
    text("bytes"),
];

/// Of one that makes weights zero and leaves every shape as it is.
pub const OF_ZEROS: &[Text] = &[text("nonzero"), text("bytes")];

/// The knob `ratio-of` with those words, standing at `default` by itself.
pub const fn knob(default: &'static str, words: &'static [Text]) -> Knob {
    Knob {
        id: text("ratio-of"),
        title: text("ratio of"),
        summary: text(
            "What the ratio counts: channels, parameters, weights that are not zero, multiply-accumulates, or bytes as \
             written. The strength that removes that share is searched for.",
        ),
        range: Range::Choice {
            options: std::borrow::Cow::Borrowed(words),
            default: text(default),
        },
    }
}

impl RatioOf {
    pub const ALL: [Self; 5] = [
        Self::Channels,
        Self::Parameters,
        Self::Nonzero,
        Self::Macs,
        Self::Bytes,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Channels => "channels",
            Self::Parameters => "parameters",
            Self::Nonzero => "nonzero",
            Self::Macs => "macs",
            Self::Bytes => "bytes",
        }
    }

    /// What that word of the knob means.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|of| of.word() == word)
    }

    /// As it stands in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Channels => "channels",
            Self::Parameters => "parameters",
            Self::Nonzero => "weights",
            Self::Macs => "multiply-accumulates",
            Self::Bytes => "written bytes",
        }
    }
}

/// The five sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub channels: u64,
    pub parameters: u64,
    /// Weights of convolutions and linear layers, zeros too.
    pub weights: u64,
    /// Those of them that are not 0.
    pub nonzero: u64,
    pub macs: u64,
    pub bytes: u64,
}

impl Sizes {
    /// All but the bytes, which are 0 here.
    pub fn of(network: &Network) -> Self {
        let weights = || {
            let parameters = network.parameters().iter();
            parameters.filter(|parameter| parameter.role == ParameterRole::Weight)
        };
        Self {
            channels: channels(network),
            parameters: network.parameters().count(),
            weights: weights().map(|p| p.value.elem_count() as u64).sum(),
            nonzero: weights()
                .map(crate::nn::parameters::Parameter::nonzero)
                .sum(),
            macs: network.macs(),
            bytes: 0,
        }
    }

    /// With the bytes of the file, which has to be written for that.
    ///
    /// # Errors
    /// candle's.
    pub fn written(network: &Network) -> Result<Self> {
        Ok(Self {
            bytes: written_bytes(network)?,
            ..Self::of(network)
        })
    }

    /// Those that a ratio asks for: the file is written only where it counts bytes.
    ///
    /// # Errors
    /// candle's.
    pub fn counted(network: &Network, of: RatioOf) -> Result<Self> {
        match of {
            RatioOf::Bytes => Self::written(network),
            _ => Ok(Self::of(network)),
        }
    }

    /// The share of these that is gone in what became of the network; negative where there is more.
    pub fn removed(&self, of: RatioOf, after: &Self) -> f64 {
        let (before, after) = match of {
            RatioOf::Channels => (self.channels, after.channels),
            RatioOf::Parameters => (self.parameters, after.parameters),
            RatioOf::Nonzero => (self.weights, after.nonzero),
            RatioOf::Macs => (self.macs, after.macs),
            RatioOf::Bytes => (self.bytes, after.bytes),
        };
        // One minus the rest would round a share like 1/2 of an odd number twice.
        (before as f64 - after as f64) / before.max(1) as f64
    }
}

impl RatioOf {
    /// The size of a network without zeros or levels, by its shapes alone.
    pub fn of_shape(self, network: &Network) -> u64 {
        let weights = network.parameters().iter();
        let weights = weights.filter(|parameter| parameter.role == ParameterRole::Weight);
        match self {
            Self::Channels => channels(network),
            Self::Parameters => network.parameters().count(),
            Self::Nonzero => weights.map(|p| p.value.elem_count() as u64).sum(),
            Self::Macs => network.macs(),
            Self::Bytes => 4 * network.parameters().count(),
        }
    }
}

/// Outputs of convolutions; without any, of the linear layers before the last.
fn channels(network: &Network) -> u64 {
    let nodes = network.nodes();
    let last = nodes
        .iter()
        .rposition(|node| matches!(node.layer, Layer::Linear { .. }));
    let of_convolutions = nodes.iter().map(|node| match node.layer {
        Layer::Conv2d { out_channels, .. } => out_channels,
        _ => 0,
    });
    let of_linear = nodes.iter().enumerate().map(|(at, node)| match node.layer {
        Layer::Linear { outputs, .. } if Some(at) != last => outputs,
        _ => 0,
    });
    let channels: usize = match of_convolutions.sum() {
        0 => of_linear.sum(),
        some => some,
    };
    channels as u64
}

/// What a search found.
pub struct Solved {
    /// How strongly the compression had to be turned up.
    pub strength: f64,
    pub reached: f64,
}

/// How far from what was asked a compression's strongest setting may end before it counts as unable: half a point, and a tenth
/// of what was to be left, where that is less.
const TOLERANCE: (f64, f64) = (0.005, 0.1);

/// Halvings of the search; 2^-24 is finer than one weight of the largest network here.
const HALVINGS: u32 = 24;

/// A share that is this near to the asked one ends the search.
const NEAR: f64 = 1e-4;

/// The strength, from 0 to `most`, whose network lacks the share `asked` of `of`, as nearly as the compression's steps
/// allow. `make` compresses at a strength; what it removes must not fall as that rises.
///
/// # Errors
/// [`Error::Impossible`] when even the strongest setting ends more than half a point below what was asked, or leaves a tenth
/// more.
pub fn solve(
    of: RatioOf,
    asked: f64,
    most: f64,
    before: &Sizes,
    mut make: impl FnMut(f64) -> Result<Sizes>,
) -> Result<Solved> {
    let mut at = |strength| make(strength).map(|after| before.removed(of, &after));
    let strongest = at(most)?;
    let tolerance = TOLERANCE.0.min(TOLERANCE.1 * (1.0 - asked));
    if strongest + tolerance < asked {
        let percent = |share: f64| (share * 1e4).floor() / 100.0;
        let problem = format!(
            "{} % of the {} cannot be removed in this way; at most {} %",
            percent(asked),
            of.noun(),
            percent(strongest.max(0.0)),
        );
        return Err(Error::Impossible {
            knob: "ratio".to_owned(),
            problem,
        });
    }
    let mut best = Solved {
        strength: most,
        reached: strongest,
    };
    let (mut low, mut high) = (0.0, most);
    for halving in 0..=HALVINGS {
        if (best.reached - asked).abs() < NEAR {
            break;
        }
        let strength = if halving == 0 {
            0.0
        } else {
            f64::midpoint(low, high)
        };
        let reached = at(strength)?;
        if (reached - asked).abs() < (best.reached - asked).abs() {
            best = Solved { strength, reached };
        }
        if reached < asked {
            low = strength;
        } else {
            high = strength;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Sizes = Sizes {
        channels: 100,
        parameters: 10_000,
        weights: 9_000,
        nonzero: 9_000,
        macs: 1_000_000,
        bytes: 40_000,
    };

    /// Widths in steps of a hundredth; what they cost goes with the square.
    fn squeezed(strength: f64) -> Sizes {
        let channels = 100 - (100.0 * strength).floor() as u64;
        Sizes {
            channels,
            parameters: channels * channels,
            macs: 100 * channels * channels,
            ..BEFORE
        }
    }

    #[test]
    fn the_strength_that_removes_a_share_is_found() {
        for (of, asked, expected) in [
            (RatioOf::Channels, 0.5, 0.5),
            // By hand: 87² = 7,569 and 86² = 7,396 of 10,000; 50² is a quarter.
            (RatioOf::Parameters, 0.25, 0.2431),
            (RatioOf::Macs, 0.75, 0.75),
            (RatioOf::Parameters, 0.0, 0.0),
        ] {
            let mut tried = 0;
            let solved = solve(of, asked, 0.99, &BEFORE, |strength| {
                tried += 1;
                Ok(squeezed(strength))
            })
            .unwrap();
            assert!((solved.reached - expected).abs() < 1e-9, "{of:?} {asked}");
            let again = BEFORE.removed(of, &squeezed(solved.strength));
            assert_eq!(again, solved.reached);
            assert!(tried <= 27);
        }
    }

    #[test]
    fn what_cannot_be_reached_is_said() {
        let make = |strength| Ok(squeezed(strength));
        let error = solve(RatioOf::Macs, 0.9, 0.5, &BEFORE, make).err().unwrap();
        assert_eq!(
            error.to_string(),
            "ratio: 90 % of the multiply-accumulates cannot be removed in this way; at most 75 %"
        );
        let error = solve(RatioOf::Bytes, 0.5, 0.9, &BEFORE, make)
            .err()
            .unwrap();
        assert!(error.to_string().ends_with("at most 0 %"), "{error}");
        // Half a point short of nearly everything leaves several times what was asked for: 0.16 % and not 0.1.
        let error = solve(RatioOf::Macs, 0.999, 0.96, &BEFORE, make).err();
        assert!(error.unwrap().to_string().contains("at most 99.8"));
        assert!(solve(RatioOf::Macs, 0.754, 0.5, &BEFORE, make).is_ok());
    }

    #[test]
    fn every_word_is_known() {
        assert_eq!(ALL.len(), RatioOf::ALL.len());
        for word in ALL {
            assert_eq!(RatioOf::of(word).unwrap().word(), word);
        }
    }
}
