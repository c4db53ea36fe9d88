//! How much a channel matters, by each of the published criteria; the least important ones are removed.
//!
//! W are a filter's weights, those of one output channel, biases left out. Where a sum couples several layers a channel
//! has a filter in each of them, and its score is the mean of theirs.
//!
//! | criterion | score of a filter | source |
//! |---|---|---|
//! | `l1` | Σ\|w\| | Li et al. 2017, arXiv:1608.08710 |
//! | `l2` | √Σw² | He et al. 2018, arXiv:1808.06866 |
//! | `batch-norm` | \|γ\| of the normalizations that carry the channel | Liu et al. 2017, arXiv:1708.06519 |
//! | `taylor` | Σ(g w)², g the gradient of the loss on training images, mean over batches | Molchanov et al. 2019, arXiv:1906.10771 |
//! | `geometric-median` | Σ_j ‖W - W_j‖₂ over the layer's filters | He et al. 2019, arXiv:1811.00250 |
//! | `lamp` | s² / Σ of s'² that are not smaller, s = √Σw² | Lee et al. 2021, arXiv:2010.07611 |
//! | `random` | a random number: the control | |
//!
//! Deviation: LAMP was published for single weights; here the norm of a filter takes a weight's place.
//! Deviation: Molchanov et al. sum g w over a filter before squaring; this is the sum of squares of their single-weight
//! score, as in NNI.

use crate::lab::compression::Start;
use crate::lab::compression::lamp::lamp;
use crate::lab::context::Context;
use crate::lab::error::{Error, Result};
use crate::lab::outputs::batch;
use crate::nn::Mode;
use crate::nn::channels::Group;
use crate::nn::layer::Layer;
use crate::nn::loss::cross_entropy;
use crate::nn::network::{Keep, Network, Wanted, Workspace};
use crate::nn::op::values;
use crate::nn::parameters::ParameterRole;
use crate::nn::rng::Rng;

/// By what channels are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Criterion {
    L1,
    L2,
    BatchNorm,
    Taylor,
    GeometricMedian,
    Lamp,
    Random,
}

/// Images of a batch whose gradients a Taylor score squares.
const TAYLOR_BATCH: usize = 64;

impl Criterion {
    /// Whether these groups can be judged by it.
    ///
    /// # Errors
    /// [`Error::Impossible`] naming a layer without what it looks at.
    pub(super) fn suits(self, network: &Network, groups: &[Group]) -> Result<()> {
        let blind = |group: &&Group| self == Self::BatchNorm && !has_scale(network, group);
        match groups.iter().find(blind) {
            Some(group) => Err(without_batch_norm(network, group)),
            None => Ok(()),
        }
    }

    pub(super) fn new(word: &str) -> Self {
        match word {
            "l2" => Self::L2,
            "batch-norm" => Self::BatchNorm,
            "taylor" => Self::Taylor,
            "geometric-median" => Self::GeometricMedian,
            "lamp" => Self::Lamp,
            "random" => Self::Random,
            _ => Self::L1,
        }
    }

    /// Whether scores of different layers are comparable as they are; sums over more or larger weights are not.
    fn compares(self) -> bool {
        matches!(
            self,
            Self::BatchNorm | Self::Taylor | Self::Lamp | Self::Random
        )
    }

    /// A score for each channel of each group; `between` layers those that do not compare are divided by their mean.
    pub(super) fn scores(
        self,
        network: &Network,
        groups: &[Group],
        seed: u64,
        squares: Option<&Squares>,
        between: bool,
    ) -> Result<Vec<Vec<f64>>> {
        let mut scores = Vec::with_capacity(groups.len());
        for (number, group) in groups.iter().enumerate() {
            let mut of_group = match self {
                Self::Random => {
                    let mut rng = Rng::stream(seed, "channel-pruning", &[number as u64]);
                    (0..group.channels).map(|_| rng.uniform()).collect()
                }
                Self::BatchNorm => batch_norm(network, group)?,
                _ => self.of_filters(network, group, squares)?,
            };
            let mean = of_group.iter().sum::<f64>() / group.channels as f64;
            if between && !self.compares() && mean > 0.0 {
                for score in &mut of_group {
                    *score /= mean;
                }
            }
            scores.push(of_group);
        }
        Ok(scores)
    }

    /// The mean over the layers that make the channels.
    fn of_filters(
        self,
        network: &Network,
        group: &Group,
        squares: Option<&Squares>,
    ) -> Result<Vec<f64>> {
        let mut sums = vec![0.0; group.channels];
        for &node in &group.producers {
            let weight = weight(network, node)?;
            let numbers = match (self, squares) {
                (Self::Taylor, Some(squares)) => squares.0[weight].clone(),
                (Self::Taylor, None) => {
                    return Err(Error::Internal("no gradients were taken".to_owned()));
                }
                _ => values(&network.parameters().at(weight).value)?
                    .into_iter()
                    .map(f64::from)
                    .collect(),
            };
            let each = numbers.len() / group.channels;
            let filters: Vec<&[f64]> = numbers.chunks_exact(each).collect();
            for (sum, score) in sums.iter_mut().zip(self.of_layer(&filters)) {
                *sum += score / group.producers.len() as f64;
            }
        }
        Ok(sums)
    }

    /// The filters of one layer; for Taylor their squares.
    fn of_layer(self, filters: &[&[f64]]) -> Vec<f64> {
        let norm = |filter: &&[f64]| filter.iter().map(|w| w * w).sum::<f64>().sqrt();
        match self {
            Self::L1 => filters
                .iter()
                .map(|filter| filter.iter().map(|w| w.abs()).sum())
                .collect(),
            Self::Taylor => filters.iter().map(|filter| filter.iter().sum()).collect(),
            Self::GeometricMedian => geometric_median(filters),
            Self::Lamp => lamp(&filters.iter().map(norm).collect::<Vec<_>>()),
            _ => filters.iter().map(norm).collect(),
        }
    }
}

/// Sums of distances to all filters of the layer.
fn geometric_median(filters: &[&[f64]]) -> Vec<f64> {
    let mut sums = vec![0.0; filters.len()];
    for (i, one) in filters.iter().enumerate() {
        for (j, other) in filters.iter().enumerate().skip(i + 1) {
            let squares = one.iter().zip(*other).map(|(a, b)| (a - b) * (a - b));
            let distance = squares.sum::<f64>().sqrt();
            sums[i] += distance;
            sums[j] += distance;
        }
    }
    sums
}

/// The mean |γ| of the normalizations that carry a channel.
fn batch_norm(network: &Network, group: &Group) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; group.channels];
    let mut count = 0.0_f64;
    for &node in &group.carriers {
        for &place in &network.nodes()[node].parameters {
            let parameter = network.parameters().at(place);
            if parameter.role == ParameterRole::Scale {
                count += 1.0;
                for (sum, scale) in sums.iter_mut().zip(values(&parameter.value)?) {
                    *sum += f64::from(scale.abs());
                }
            }
        }
    }
    if count == 0.0 {
        return Err(without_batch_norm(network, group));
    }
    Ok(sums.into_iter().map(|sum| sum / count).collect())
}

/// Whether a normalization carries the group's channels.
fn has_scale(network: &Network, group: &Group) -> bool {
    let nodes = group.carriers.iter().map(|node| &network.nodes()[*node]);
    let mut places = nodes.flat_map(|node| &node.parameters);
    places.any(|place| network.parameters().at(*place).role == ParameterRole::Scale)
}

fn without_batch_norm(network: &Network, group: &Group) -> Error {
    let problem = format!(
        "batch-norm needs a batch normalization behind every layer that is pruned, and {} has none; one of l1, l2, taylor, \
         geometric-median, lamp, random",
        network.nodes()[group.producers[0]].name
    );
    Error::Impossible {
        knob: "criterion".to_owned(),
        problem,
    }
}

/// Where a layer's weight lies.
fn weight(network: &Network, node: usize) -> Result<usize> {
    let node = &network.nodes()[node];
    let mut places = node.parameters.iter().copied();
    places
        .find(|place| network.parameters().at(*place).role == ParameterRole::Weight)
        .ok_or_else(|| Error::Internal(format!("{} has no weight", node.name)))
}

/// (g w)² of every weight, the mean over batches of training images; by the parameter's place.
pub(super) struct Squares(Vec<Vec<f64>>);

impl Squares {
    /// In evaluation mode, over so many training images, every class in its share.
    pub(super) fn of(
        network: &Network,
        start: &Start<'_>,
        images: usize,
        cx: &mut Context<'_>,
    ) -> Result<Self> {
        let data = start.subject.data;
        let train = data.train.select(&data.split.train);
        let chosen = train.stratified(images, start.subject.seed);
        let batches: Vec<&[usize]> = chosen.chunks(TAYLOR_BATCH).collect();
        let mut sums: Vec<Vec<f64>> = network
            .parameters()
            .iter()
            .map(|parameter| vec![0.0; parameter.value.elem_count()])
            .collect();
        let mut workspace = Workspace::default();
        for (done, indices) in batches.iter().enumerate() {
            let images = batch(&train, indices)?;
            let labels: Vec<u32> = indices.iter().map(|index| train.labels[*index]).collect();
            let trace = network.trace(&images, Mode::Eval, Keep::Gradients, &mut workspace)?;
            let loss = cross_entropy(trace.logits(), &labels)?;
            let gradients = trace.backward(&loss.d_logits, Wanted::PARAMETERS)?;
            for (place, sums) in sums.iter_mut().enumerate() {
                let parameter = network.parameters().at(place);
                let Some(gradient) = &gradients.parameters[place] else {
                    continue;
                };
                if parameter.role != ParameterRole::Weight {
                    continue;
                }
                let pairs = values(gradient)?.into_iter().zip(values(&parameter.value)?);
                for (sum, (g, w)) in sums.iter_mut().zip(pairs) {
                    *sum += (f64::from(g) * f64::from(w)).powi(2) / batches.len() as f64;
                }
            }
            drop(trace);
            workspace.recycle(gradients);
            let total = batches.len() as u64;
            cx.progress(done as u64 + 1, total, "taking gradients of the channels")?;
        }
        Ok(Self(sums))
    }
}

/// Whether all that makes a group's channels is a convolution.
pub(super) fn is_convolutional(network: &Network, group: &Group) -> bool {
    let mut producers = group.producers.iter();
    producers.all(|node| matches!(network.nodes()[*node].layer, Layer::Conv2d { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-7, "{found} is not {expected}");
        }
    }

    /// NumPy 2.4.6: distances 1, 1, √50; √2, √41; √41.
    #[test]
    fn the_geometric_median_and_the_norm_disagree() {
        let filters: [&[f64]; 4] = [&[0.0, 0.0], &[1.0, 0.0], &[0.0, 1.0], &[5.0, 5.0]];
        let median = Criterion::GeometricMedian.of_layer(&filters);
        near(
            &median,
            &[9.071_067_8, 8.817_337_8, 8.817_337_8, 19.877_316_3],
        );
        near(&Criterion::L1.of_layer(&filters), &[0.0, 1.0, 1.0, 10.0]);
        near(
            &Criterion::L2.of_layer(&filters),
            &[0.0, 1.0, 1.0, 50_f64.sqrt()],
        );
    }

    /// By hand, w = (.5, -1, 2) and g = (2, .1, -.01): 1, .01 and .0004.
    #[test]
    fn taylor_squares_each_weight_with_its_gradient() {
        let squares: Vec<f64> = [(0.5, 2.0), (-1.0, 0.1), (2.0, -0.01)]
            .map(|(w, g): (f64, f64)| (w * g).powi(2))
            .into();
        near(&squares, &[1.0, 0.01, 0.0004]);
        near(&Criterion::Taylor.of_layer(&[&squares]), &[1.0104]);
    }
}
