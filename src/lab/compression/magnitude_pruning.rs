//! Magnitude pruning: the weights nearest to zero become zero and stay so.
//!
//! w' = 0 where |w| is among the k smallest, k = round(ratio · n), halves to even as in PyTorch's `prune`.
//! Over the weights of all layers together (`global`) or of each layer by itself (`per-layer`); biases are kept. `lamp`
//! is global by w² / Σ w'² over the weights w' of the same layer that are not smaller, which is 1 for each layer's
//! largest, so that no layer dies; Lee et al. 2021, arXiv:2010.07611.
//! Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks", arXiv:1506.02626.
//!
//! The count is the ratio itself where it counts weights that are not zero; `ratio-of = bytes` searches for the count that
//! shrinks the smallest written form. No other size shrinks, and asking for one is refused. With `parameters = all` biases,
//! scales and shifts are pruned as weights are.
//! `weights = rewound` gives what stays its initial weights back, the lottery ticket of Frankle and Carbin 2019,
//! arXiv:1803.03635; `scratch` draws new ones under the same mask, their control.
//!
//! Weights that an earlier pruning took come first, whatever they would be by size, so that the ratio counts them and
//! none is counted twice. Among equals the one that comes first in the order of layers, then of weights, goes first.

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::event::Cost;
use crate::lab::compression::lamp::lamp;
use crate::lab::compression::remaining::{WEIGHTS, Weights};
use crate::lab::compression::schedule::{EPOCHS, SCHEDULE, Schedule};
use crate::lab::compression::{Compressed, Compression, Start};
use crate::lab::context::{Context, Observer};
use crate::lab::error::Result;
use crate::lab::ratio::{self, RatioOf, Sizes};
use crate::lab::storage::{Layout, network_bytes};
use crate::nn::network::Network;
use crate::nn::op::values;
use crate::nn::parameters::ParameterRole;

pub const ENTRY: Entry<dyn Compression> = Entry {
    info: Info {
        id: text("magnitude-pruning"),
        title: text("Magnitude pruning"),
        summary: text(
            "Sets the smallest weights to zero and keeps them there. Zeros are stored and multiplied like any other \
             number, so neither the dense file nor the latency shrinks.",
        ),
        reference: text("arXiv:1506.02626"),
        family: text("pruning"),
        ratio_of: Some(text("weights")),
    },
    knobs: &[
        Knob {
            id: text("ratio"),
            title: text("ratio"),
            summary: text(
                "Share of the weights that becomes zero; biases are not counted. 0 changes nothing.",
            ),
            range: Range::Real {
                least: 0.0,
                most: MOST,
                step: 0.05,
                default: 0.5,
            },
        },
        Knob {
            id: text("scope"),
            title: text("scope"),
            summary: text(
                "Whether the smallest weights are sought in the whole network or in each layer; lamp seeks in the whole \
                 network by each weight's share of its layer's larger ones.",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[
                    text("global"),
                    text("per-layer"),
                    text("lamp"),
                ]),
                default: text("global"),
            },
        },
        ratio::knob("nonzero", ratio::OF_ZEROS),
        Knob {
            id: text("parameters"),
            title: text("parameters"),
            summary: text(
                "Whether only weights are pruned, or biases, scales and shifts among them too.",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[text("weights"), text("all")]),
                default: text("weights"),
            },
        },
        Knob {
            id: text("weights"),
            title: text("weights"),
            summary: text(
                "What stays keeps its weights, gets its initial ones back (rewound), or new random ones (scratch).",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(WEIGHTS),
                default: text("kept"),
            },
        },
        SCHEDULE,
        EPOCHS,
    ],
    build: |setting| {
        Box::new(MagnitudePruning {
            ratio: setting.real("ratio"),
            scope: match setting.choice("scope") {
                "per-layer" => Scope::PerLayer,
                "lamp" => Scope::Lamp,
                _ => Scope::Global,
            },
            of: RatioOf::of(setting.choice("ratio-of")).unwrap_or(RatioOf::Nonzero),
            has_all: setting.choice("parameters") == "all",
            weights: Weights::new(setting.choice("weights")),
            schedule: Schedule::new(setting),
        })
    },
};

/// The greatest ratio.
const MOST: f64 = 0.999;

/// Among which weights the smallest are sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Global,
    PerLayer,
    /// In all layers, by LAMP's scores instead of sizes.
    Lamp,
}

struct MagnitudePruning {
    ratio: f64,
    scope: Scope,
    of: RatioOf,
    /// Whether biases, scales and shifts are pruned too.
    has_all: bool,
    weights: Weights,
    schedule: Schedule,
}

impl Compression for MagnitudePruning {
    fn is_live(&self) -> bool {
        self.schedule == Schedule::OneShot
    }

    fn compress(
        &self,
        start: &Start<'_>,
        observer: &mut dyn Observer,
        cx: &mut Context<'_>,
    ) -> Result<Compressed> {
        cx.checkpoint()?;
        let before = Sizes::counted(start.network, self.of)?;
        let strength = match self.of {
            RatioOf::Nonzero => self.ratio,
            of => {
                let pruned = |strength| {
                    let mut network = start.network.duplicate()?;
                    self.prune(&mut network, strength)?;
                    Sizes::counted(&network, of)
                };
                ratio::solve(of, self.ratio, MOST, &before, pruned)?.strength
            }
        };
        let mut network = start.network.duplicate()?;
        let (mut cost, mut life, mut best) = (Cost::default(), start.life, None);
        if self.schedule == Schedule::OneShot {
            self.prune(&mut network, strength)?;
        } else {
            let prune = |network: &mut Network, share: f64| self.prune(network, share * strength);
            let trained = self
                .schedule
                .train(&mut network, start, &prune, observer, cx)?;
            (cost, life, best) = (trained.cost, trained.life, Some(trained.best));
        }
        if let Some(origin) = self.weights.origin(start)? {
            let masked = network;
            network = origin;
            network.parameters_mut().take_masks(masked.parameters())?;
            best = None;
        }
        let kilobytes = |layout| network_bytes(&network, layout) as f64 / 1e3;
        let mut remarks = vec![format!(
            "zeros are stored as they are: {:.0} kB dense, as before; {:.0} kB with a bitmask, {:.0} kB in compressed rows; \
             latency does not change",
            kilobytes(Layout::Dense),
            kilobytes(Layout::Bitmask),
            kilobytes(Layout::CompressedRows),
        )];
        remarks.extend(self.weights.remark());
        let reached = match self.of {
            // Of all that may be pruned, biases too where they are.
            RatioOf::Nonzero => {
                let (zeros, all) = zeros(&network, self.has_all)?;
                zeros as f64 / all as f64
            }
            of => before.removed(of, &Sizes::counted(&network, of)?),
        };
        Ok(Compressed {
            network,
            best,
            asked: Some(self.ratio),
            reached: Some(reached),
            remarks,
            cost,
            life,
        })
    }

    fn epochs(&self) -> u32 {
        self.schedule.epochs()
    }
}

impl MagnitudePruning {
    /// Masks the share `strength` of what may be pruned.
    fn prune(&self, network: &mut Network, strength: f64) -> Result<()> {
        let mut layers = Layer::all(network, self.has_all)?;
        if self.scope == Scope::Lamp {
            for layer in &mut layers {
                let sizes: Vec<f64> = layer.weights.iter().map(|w| f64::from(*w)).collect();
                layer.weights = lamp(&sizes).into_iter().map(|s| s as f32).collect();
            }
        }
        let chosen = match self.scope {
            Scope::Global | Scope::Lamp => smallest(&layers, strength),
            Scope::PerLayer => layers
                .iter()
                .flat_map(|layer| smallest(std::slice::from_ref(layer), strength))
                .collect(),
        };
        for (layer, taken) in layers.iter().zip(&chosen) {
            if taken.contains(&true) {
                let mask: Vec<f32> = taken
                    .iter()
                    .map(|&taken| if taken { 0.0 } else { 1.0 })
                    .collect();
                network.parameters_mut().set_mask(&layer.name, &mask)?;
            }
        }
        Ok(())
    }
}

/// What may be pruned and is 0, and all of it.
fn zeros(network: &Network, has_all: bool) -> Result<(usize, usize)> {
    let mut counts = (0, 0);
    for layer in Layer::all(network, has_all)? {
        counts.0 += layer
            .weights
            .iter()
            .filter(|weight| **weight == 0.0)
            .count();
        counts.1 += layer.weights.len();
    }
    Ok(counts)
}

/// The weights of one layer, and which of them are masked already.
struct Layer {
    name: String,
    weights: Vec<f32>,
    masked: Vec<bool>,
}

impl Layer {
    fn all(network: &Network, has_all: bool) -> Result<Vec<Self>> {
        let parameters = network.parameters().iter();
        let weights = parameters.filter(|parameter| {
            parameter.role == ParameterRole::Weight || (has_all && parameter.role.trains())
        });
        weights
            .map(|parameter| {
                let weights = values(&parameter.value)?;
                let masked = match &parameter.mask {
                    Some(mask) => values(mask)?.iter().map(|kept| *kept == 0.0).collect(),
                    None => vec![false; weights.len()],
                };
                Ok(Self {
                    name: parameter.name.clone(),
                    weights,
                    masked,
                })
            })
            .collect()
    }
}

/// Which weights of these layers are taken when the share `ratio` of them all is; masked ones always are.
fn smallest(layers: &[Layer], ratio: f64) -> Vec<Vec<bool>> {
    let mut order: Vec<(bool, f32, usize, usize)> = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let pairs = layer.weights.iter().zip(&layer.masked).enumerate();
        order.extend(pairs.map(|(index, (weight, masked))| (!masked, weight.abs(), at, index)));
    }
    let count = (ratio * order.len() as f64).round_ties_even() as usize;
    if let Some(last) = count.checked_sub(1) {
        // Only who goes matters, not in which order.
        order.select_nth_unstable_by(last, |a, b| {
            a.0.cmp(&b.0)
                .then(a.1.total_cmp(&b.1))
                .then(a.2.cmp(&b.2))
                .then(a.3.cmp(&b.3))
        });
    }
    let mut taken: Vec<Vec<bool>> = layers.iter().map(|layer| layer.masked.clone()).collect();
    for &(_, _, at, index) in &order[..count] {
        taken[at][index] = true;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(weights: &[f32]) -> Layer {
        Layer {
            name: String::new(),
            weights: weights.to_vec(),
            masked: vec![false; weights.len()],
        }
    }

    fn indices(taken: &[bool]) -> Vec<usize> {
        taken
            .iter()
            .enumerate()
            .filter(|(_, taken)| **taken)
            .map(|(index, _)| index)
            .collect()
    }

    /// By hand; PyTorch 2.15's `prune.global_unstructured(L1Unstructured, 0.5)` takes the same.
    #[test]
    fn the_global_half_may_be_one_whole_layer() {
        let a = layer(&[0.05, 0.1, -0.9, 1.0]);
        let taken = smallest(&[layer(&a.weights), layer(&[-0.2, 0.3, 0.4, 0.5])], 0.5);
        assert_eq!(
            (indices(&taken[0]), indices(&taken[1])),
            (vec![0, 1], vec![0, 1])
        );
        let b = layer(&[2.0, 3.0, -4.0, 5.0]);
        let local: Vec<_> = [&a, &b]
            .iter()
            .map(|layer| indices(&smallest(std::slice::from_ref(layer), 0.5)[0]))
            .collect();
        assert_eq!(local, [[0, 1], [0, 1]]);
        let taken = smallest(&[a, b], 0.5);
        assert_eq!(
            (indices(&taken[0]), indices(&taken[1])),
            (vec![0, 1, 2, 3], vec![])
        );
    }

    /// PyTorch 2.15: `round(.25 * 10)` is 2, `round(.35 * 10)` is 4, since .35 · 10 = 3.5 goes to the even one.
    #[test]
    fn the_count_is_rounded_half_to_even() {
        let ten = [layer(&[1.0; 10])];
        for (ratio, count) in [(0.25, 2), (0.35, 4), (0.27, 3), (0.0, 0), (0.999, 10)] {
            assert_eq!(indices(&smallest(&ten, ratio)[0]).len(), count, "{ratio}");
        }
    }

    #[test]
    fn among_equals_the_first_goes_first() {
        let taken = smallest(&[layer(&[0.5, -0.5, 0.5]), layer(&[0.5, 0.5, -0.5])], 0.5);
        assert_eq!(
            (indices(&taken[0]), indices(&taken[1])),
            (vec![0, 1, 2], vec![])
        );
    }

    #[test]
    fn what_was_pruned_before_counts_and_is_not_brought_back() {
        let mut pruned = layer(&[0.0, 0.0, 0.3, 0.2]);
        pruned.masked = vec![true, true, false, false];
        assert_eq!(
            indices(&smallest(std::slice::from_ref(&pruned), 0.75)[0]),
            [0, 1, 3]
        );
        assert_eq!(
            indices(&smallest(std::slice::from_ref(&pruned), 0.25)[0]),
            [0, 1],
            "a smaller ratio takes no more"
        );
        // A weight that is 0 by chance comes after the masked ones.
        pruned.weights[2] = 0.0;
        pruned.masked = vec![false, true, false, false];
        assert_eq!(indices(&smallest(&[pruned], 0.5)[0]), [0, 1]);
    }
}
