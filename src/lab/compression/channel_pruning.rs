//! Channel pruning: the least important channels are removed from every layer that they run through, so that the network
//! really is smaller and computes less.
//!
//! Of n channels n - ⌊n · ratio⌋ stay. Which channels go together is found by `nn::channels`; how they are judged stands
//! in `criterion`, among which they are sought in `selection`, and when in `schedule`. Biases, scales, shifts and
//! running statistics of what stays are as they were: statistics behind removed channels are stale until a fine-tuning or
//! a recalibration moves them.
//!
//! `structure = masked` zeroes the same channels and removes nothing, as in "Analyzing the robustness of model compression
//! techniques to noise", whose latency at 90 % is that of the whole network: outputs are equal to those of the small
//! network, size and cost are not.
//!
//! Controls: `weights = rewound` gives what stays its initial weights back (Frankle and Carbin 2019, arXiv:1803.03635),
//! `weights = scratch` draws new ones for the small shape (Liu et al. 2019, arXiv:1810.05270); both need a fine-tuning
//! as long as the reference's training to say something.

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::event::Cost;
use crate::lab::compression::remaining::{WEIGHTS, Weights};
use crate::lab::compression::schedule::{EPOCHS, SCHEDULE, Schedule};
use crate::lab::compression::{Compressed, Compression, Start};
use crate::lab::context::{Context, Observer};
use crate::lab::error::{Error, Result};
use crate::lab::ratio::{self, RatioOf, Sizes};
use crate::nn::channels::{Group, groups};
use crate::nn::network::Network;
use crate::nn::op::values;
use crate::spec::Method;
use criterion::{Criterion, Squares, is_convolutional};
use selection::{Scope, removed};

mod criterion;
mod selection;

pub const ENTRY: Entry<dyn Compression> = Entry {
    info: Info {
        id: text("channel-pruning"),
        title: text("Channel pruning"),
        summary: text(
            "Removes the least important channels from all layers that share them. The network becomes smaller and \
             faster; half of the channels is about three quarters of the weights.",
        ),
        reference: text("arXiv:1608.08710"),
        family: text("pruning"),
        ratio_of: Some(text("channels")),
    },
    knobs: &[
        Knob {
            id: text("ratio"),
            title: text("ratio"),
            summary: text("Share that is removed, of what `ratio of` says; 0 changes nothing."),
            range: Range::Real {
                least: 0.0,
                most: MOST,
                step: 0.05,
                default: 0.5,
            },
        },
        ratio::knob("channels", ratio::ALL),
        Knob {
            id: text("criterion"),
            title: text("criterion"),
            summary: text(
                "What makes a channel important: the size of its weights (l1, l2, lamp), its normalization's scale, the \
                 loss's change without it (taylor), how unlike the others it is (geometric-median); random is the control.",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[
                    text("l1"),
                    text("l2"),
                    text("batch-norm"),
                    text("taylor"),
                    text("geometric-median"),
                    text("lamp"),
                    text("random"),
                ]),
                default: text("l1"),
            },
        },
        Knob {
            id: text("scope"),
            title: text("scope"),
            summary: text(
                "Whether each layer loses the same share, or the least important channels of all layers go.",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[text("per-layer"), text("global")]),
                default: text("per-layer"),
            },
        },
        Knob {
            id: text("layers"),
            title: text("layers"),
            summary: text(
                "Whether only convolutions lose channels, or hidden linear layers lose features too.",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[text("convolutions"), text("all")]),
                default: text("convolutions"),
            },
        },
        Knob {
            id: text("structure"),
            title: text("structure"),
            summary: text(
                "removed makes the network smaller; masked only zeroes the channels, as some reports did: nothing gets \
                 smaller or faster.",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[text("removed"), text("masked")]),
                default: text("removed"),
            },
        },
        Knob {
            id: text("weights"),
            title: text("weights"),
            summary: text(
                "What stays keeps its weights, gets its initial ones back (rewound), or new random ones (scratch): the \
                 controls for whether the weights matter or the shape.",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(WEIGHTS),
                default: text("kept"),
            },
        },
        SCHEDULE,
        EPOCHS,
        Knob {
            id: text("multiple"),
            title: text("multiple"),
            summary: text(
                "Channels left in a layer are rounded up to a multiple of this; 8 suits vector units.",
            ),
            range: Range::Integer {
                least: 1,
                most: 64,
                default: 1,
            },
        },
        Knob {
            id: text("images"),
            title: text("images"),
            summary: text("Training images whose gradients the criterion taylor takes."),
            range: Range::Integer {
                least: 1,
                most: 100_000,
                default: 1024,
            },
        },
    ],
    build: |setting| {
        Box::new(ChannelPruning {
            ratio: setting.real("ratio"),
            of: RatioOf::of(setting.choice("ratio-of")).unwrap_or(RatioOf::Channels),
            criterion: Criterion::new(setting.choice("criterion")),
            scope: match setting.choice("scope") {
                "global" => Scope::Global,
                _ => Scope::PerLayer,
            },
            has_linear: setting.choice("layers") == "all",
            is_masked: setting.choice("structure") == "masked",
            weights: Weights::new(setting.choice("weights")),
            schedule: Schedule::new(setting),
            multiple: setting.integer("multiple") as usize,
            images: setting.integer("images") as usize,
        })
    },
};

/// The greatest ratio.
const MOST: f64 = 0.999;

struct ChannelPruning {
    ratio: f64,
    of: RatioOf,
    criterion: Criterion,
    scope: Scope,
    /// Whether hidden linear layers lose features too.
    has_linear: bool,
    is_masked: bool,
    weights: Weights,
    schedule: Schedule,
    multiple: usize,
    images: usize,
}

impl Compression for ChannelPruning {
    fn is_live(&self) -> bool {
        self.schedule == Schedule::OneShot && self.criterion != Criterion::Taylor
    }

    fn compress(
        &self,
        start: &Start<'_>,
        observer: &mut dyn Observer,
        cx: &mut Context<'_>,
    ) -> Result<Compressed> {
        cx.checkpoint()?;
        let groups = self.groups(start.network)?;
        let before = Sizes::counted(start.network, self.of)?;
        let squares = match self.criterion {
            Criterion::Taylor => Some(Squares::of(start.network, start, self.images, cx)?),
            _ => None,
        };
        let squares = squares.as_ref();
        let seed = start.subject.network.init_seed;
        let scores = self.scores(start.network, &groups, seed, squares)?;
        let gone = gone(start.network, &groups)?;
        let at = |strength| removed(&scores, &gone, strength, self.scope, self.multiple);
        // Among all layers together coupled channels count once, and the ratio counts every convolution's.
        let is_direct = self.scope == Scope::PerLayer && self.multiple == 1;
        let strength = if self.of == RatioOf::Channels && is_direct {
            self.ratio
        } else {
            let smaller = |strength| {
                let network = start.network.with_channels(&kept(&groups, &at(strength)))?;
                Sizes::counted(&network, self.of)
            };
            ratio::solve(self.of, self.ratio, MOST, &before, smaller)?.strength
        };

        let mut cost = Cost::default();
        let mut life = start.life;
        let mut network = start.network.duplicate()?;
        let mut best = None;
        let mut taken = at(strength);
        if self.schedule != Schedule::OneShot {
            let prune = |network: &mut Network, share: f64| {
                let scores = self.scores(network, &groups, seed, squares)?;
                let gone = self::gone(network, &groups)?;
                let ratio = share * strength;
                let taken = removed(&scores, &gone, ratio, self.scope, self.multiple);
                mask(network, &groups, &taken)
            };
            let trained = self
                .schedule
                .train(&mut network, start, &prune, observer, cx)?;
            taken = self::gone(&network, &groups)?;
            (cost, life, best) = (trained.cost, trained.life, Some(trained.best));
        }
        let origin = self.weights.origin(start)?;
        let finish = |network: Network| -> Result<Network> {
            let mut network = match &origin {
                Some(origin) => origin.duplicate()?,
                None => network,
            };
            if self.is_masked {
                mask(&mut network, &groups, &taken)?;
                return Ok(network);
            }
            Ok(network.with_channels(&kept(&groups, &taken))?)
        };
        let network = finish(network)?;
        let best = best.map(finish).transpose()?;
        let smaller = if self.is_masked {
            start.network.with_channels(&kept(&groups, &taken))?
        } else {
            network.duplicate()?
        };
        let after = Sizes::counted(&smaller, self.of)?;
        let reached = before.removed(self.of, &after);
        Ok(Compressed {
            network,
            best,
            asked: Some(self.ratio),
            reached: Some(reached),
            remarks: self.remarks(&groups, &taken, &before, &after),
            cost,
            life,
        })
    }

    fn suits(&self, _: &Method, network: &Network) -> Result<()> {
        let groups = self.groups(network)?;
        self.criterion.suits(network, &groups)
    }

    fn epochs(&self) -> u32 {
        self.schedule.epochs()
    }
}

impl ChannelPruning {
    /// The groups that may lose channels.
    fn groups(&self, network: &Network) -> Result<Vec<Group>> {
        let mut groups = groups(network);
        groups.retain(|group| self.has_linear || is_convolutional(network, group));
        if groups.is_empty() {
            let problem = format!(
                "{} has no convolution whose channels could go; all lets hidden linear layers lose features",
                network.name()
            );
            return Err(Error::Impossible {
                knob: "layers".to_owned(),
                problem,
            });
        }
        Ok(groups)
    }

    fn scores(
        &self,
        network: &Network,
        groups: &[Group],
        seed: u64,
        squares: Option<&Squares>,
    ) -> Result<Vec<Vec<f64>>> {
        let between = self.scope == Scope::Global;
        self.criterion
            .scores(network, groups, seed, squares, between)
    }

    fn remarks(
        &self,
        groups: &[Group],
        taken: &[Vec<bool>],
        before: &Sizes,
        after: &Sizes,
    ) -> Vec<String> {
        let all: usize = groups.iter().map(|group| group.channels).sum();
        let gone = taken.iter().flatten().filter(|taken| **taken).count();
        let percent = |of| 100.0 * before.removed(of, after);
        let sizes = format!(
            "{:.1} % of the parameters and {:.1} % of the multiply-accumulates",
            percent(RatioOf::Parameters),
            percent(RatioOf::Macs)
        );
        let mut remarks = vec![if self.is_masked {
            format!(
                "masked only: {gone} of {all} coupled channels are zero and stay in the network, which is as large and as \
                 slow as before; removed, they would save {sizes}"
            )
        } else {
            format!("{gone} of {all} coupled channels are removed, and with them {sizes}")
        }];
        remarks.extend(self.weights.remark());
        remarks
    }
}

/// Zeroes what is taken, and keeps it so.
fn mask(network: &mut Network, groups: &[Group], taken: &[Vec<bool>]) -> Result<()> {
    for (group, taken) in groups.iter().zip(taken) {
        let removed: Vec<usize> = places(taken, true);
        if !removed.is_empty() {
            network.mask_channels(group, &removed)?;
        }
    }
    Ok(())
}

/// What stays of each group that loses something.
fn kept(groups: &[Group], taken: &[Vec<bool>]) -> Vec<(Group, Vec<usize>)> {
    let pairs = groups.iter().zip(taken);
    pairs
        .filter(|(_, taken)| taken.contains(&true))
        .map(|(group, taken)| (group.clone(), places(taken, false)))
        .collect()
}

fn places(taken: &[bool], wanted: bool) -> Vec<usize> {
    let places = taken.iter().enumerate();
    places
        .filter(|(_, taken)| **taken == wanted)
        .map(|(place, _)| place)
        .collect()
}

/// Which channels an earlier pruning zeroed: those that masks cover in all that makes or carries them, biases too, so that
/// nothing changes without them.
fn gone(network: &Network, groups: &[Group]) -> Result<Vec<Vec<bool>>> {
    let mut gone = Vec::with_capacity(groups.len());
    for group in groups {
        let mut of_group = vec![true; group.channels];
        for &node in group.producers.iter().chain(&group.carriers) {
            for &place in &network.nodes()[node].parameters {
                let parameter = network.parameters().at(place);
                if !parameter.role.trains() {
                    continue;
                }
                let Some(mask) = &parameter.mask else {
                    of_group.fill(false);
                    continue;
                };
                let mask = values(mask)?;
                let each = mask.len() / group.channels;
                for (gone, channel) in of_group.iter_mut().zip(mask.chunks_exact(each)) {
                    *gone &= channel.iter().all(|kept| *kept == 0.0);
                }
            }
        }
        // One channel always stays.
        if of_group.iter().all(|gone| *gone) {
            of_group[0] = false;
        }
        gone.push(of_group);
    }
    Ok(gone)
}
