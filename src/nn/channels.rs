//! Channels that belong together, and networks without some of them.
//!
//! Layers couple channels: what a convolution gives is scaled by the normalization behind it, filtered by a depthwise
//! convolution, added to what another convolution gives, and summed over by every layer that reads it. A channel can
//! only go from all of them at once. Each set of coupled channels is a group, found as a connected component of the
//! graph in which two layers' outputs are joined when they share an index set (Fang et al. 2023, "DepGraph",
//! arXiv:2301.12900):
//!
//! | layer | output's channels |
//! |---|---|
//! | convolution, linear, soft tree | its own |
//! | normalization, depthwise convolution, ReLU, pooling, simulated quantization, mean over positions | its input's |
//! | sum | those of both inputs, joined |
//! | flatten | its input's, each as `H·W` features in a row |
//!
//! The images' channels and the logits are no group: they stay.

use super::layer::Layer;
use super::network::{Builder, Kept, Network, Node};
use super::op::{beside, values};
use super::parameters::ParameterRole;
use super::{Result, invalid};

/// A set of coupled channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// How many channels there are.
    pub channels: usize,
    /// Convolutions and linear layers that make them, by their place in the network.
    pub producers: Vec<usize>,
    /// Layers with parameters for each of them: normalizations and depthwise convolutions.
    pub carriers: Vec<usize>,
    /// Layers that sum over them.
    pub consumers: Vec<Consumer>,
}

/// A layer that sums over a group's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumer {
    pub node: usize,
    /// Features in a row that belong to one channel: 1, or `H·W` behind a flattening.
    pub positions: usize,
}

/// What a node gives: its index set, and how many features each index stands for.
#[derive(Clone, Copy)]
struct Given {
    set: usize,
    positions: usize,
}

/// The groups of a network in the order of their first layers, without those that may not change.
pub fn groups(network: &Network) -> Vec<Group> {
    let nodes = network.nodes();
    // Index set 0 is the images'; every producer adds one.
    let mut parents = vec![0];
    let mut given: Vec<Given> = Vec::with_capacity(nodes.len());
    for (at, node) in nodes.iter().enumerate() {
        let before = node.inputs.first().map_or(
            Given {
                set: 0,
                positions: 1,
            },
            |input| given[*input],
        );
        given.push(match node.layer {
            Layer::Conv2d { .. } | Layer::Linear { .. } | Layer::SoftTree { .. } => {
                parents.push(parents.len());
                Given {
                    set: parents.len() - 1,
                    positions: 1,
                }
            }
            Layer::Add => {
                for input in &node.inputs {
                    join(&mut parents, before.set, given[*input].set);
                }
                before
            }
            Layer::Flatten => Given {
                positions: before.positions
                    * network.input_shape(at)[1..].iter().product::<usize>(),
                ..before
            },
            Layer::Normalize { .. }
            | Layer::Relu
            | Layer::DepthwiseConv2d { .. }
            | Layer::BatchNorm2d { .. }
            | Layer::MaxPool2d { .. }
            | Layer::AveragePool2d { .. }
            | Layer::GlobalAveragePool
            | Layer::FakeQuant { .. } => before,
        });
    }
    let mut fixed = vec![root(&parents, 0)];
    fixed.extend(given.last().map(|last| root(&parents, last.set)));
    let mut found: Vec<(usize, Group)> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let own = root(&parents, given[at].set);
        let read = node.inputs.first().map(|input| given[*input]);
        match node.layer {
            Layer::Conv2d { .. } | Layer::Linear { .. } | Layer::SoftTree { .. } => {
                if let Some(read) = read
                    && let Some(group) = of(&mut found, root(&parents, read.set))
                {
                    group.consumers.push(Consumer {
                        node: at,
                        positions: read.positions,
                    });
                }
                match of(&mut found, own) {
                    Some(group) => group.producers.push(at),
                    None if fixed.contains(&own) => {}
                    None => found.push((
                        own,
                        Group {
                            channels: network.shape(at)[0],
                            producers: vec![at],
                            carriers: Vec::new(),
                            consumers: Vec::new(),
                        },
                    )),
                }
            }
            Layer::BatchNorm2d { .. } | Layer::DepthwiseConv2d { .. } => {
                if let Some(group) = of(&mut found, own) {
                    group.carriers.push(at);
                }
            }
            _ => {}
        }
    }
    found.into_iter().map(|(_, group)| group).collect()
}

fn of(found: &mut [(usize, Group)], set: usize) -> Option<&mut Group> {
    let mut found = found.iter_mut();
    found.find(|(own, _)| *own == set).map(|(_, group)| group)
}

fn root(parents: &[usize], mut set: usize) -> usize {
    while parents[set] != set {
        set = parents[set];
    }
    set
}

fn join(parents: &mut [usize], one: usize, other: usize) {
    let (one, other) = (root(parents, one), root(parents, other));
    parents[one.max(other)] = one.min(other);
}

impl Network {
    /// The network with these channels of each group alone, in rising order; groups that are not named stay whole.
    /// Values, masks, levels and running statistics of what stays are as they were.
    ///
    /// # Errors
    /// When a group would lose all its channels, or is none of this network's.
    pub fn with_channels(&self, kept: &[(Group, Vec<usize>)]) -> Result<Self> {
        let n = self.nodes().len();
        // For each node which of its outputs stay, and which of the features that it sums over.
        let (mut rows, mut columns) = (vec![None; n], vec![None; n]);
        for (group, kept) in kept {
            let rising = kept.windows(2).all(|pair| pair[0] < pair[1]);
            if kept.is_empty() || !rising || kept.last().is_some_and(|last| *last >= group.channels)
            {
                return Err(invalid(format!(
                    "{} has {} channels, of which some must stay, not {kept:?}",
                    self.nodes()[group.producers[0]].name,
                    group.channels
                )));
            }
            for &node in group.producers.iter().chain(&group.carriers) {
                rows[node] = Some(kept.clone());
            }
            for consumer in &group.consumers {
                let features = |channel: &usize| {
                    let first = channel * consumer.positions;
                    first..first + consumer.positions
                };
                columns[consumer.node] = Some(kept.iter().flat_map(features).collect::<Vec<_>>());
            }
        }
        let mut smaller = self.relaid(None, |at, node| {
            let mut layer = node.layer.clone();
            if let Some(kept) = &rows[at] {
                narrow(&mut layer, kept.len());
            }
            vec![(node.name.clone(), layer)]
        })?;
        for (at, node) in self.nodes().iter().enumerate() {
            for &place in &node.parameters {
                let of = self.parameters().at(place);
                let part = Part {
                    dims: of.value.dims(),
                    rows: rows[at].as_deref(),
                    // A tree's leaves are weights too, but read no features.
                    columns: columns[at].as_deref().filter(|_| {
                        of.role == ParameterRole::Weight && of.name.ends_with(".weight")
                    }),
                };
                let mask = of.mask.as_ref().map(values).transpose()?;
                let value = part.of(&values(&of.value)?);
                let parameters = smaller.parameters_mut();
                parameters.set(&of.name, &value)?;
                if let Some(into) = parameters.get_mut(&of.name) {
                    into.levels = of.levels.as_ref().map(|levels| levels.rows(part.rows));
                    // A mask that covered what went alone has nothing left to cover.
                    let mask = mask.map(|mask| part.of(&mask));
                    let mask = mask.filter(|mask| mask.contains(&0.0));
                    let mask = mask.map(|mask| beside(&into.value, &mask));
                    into.mask = mask.transpose()?;
                }
            }
            let is_producer = matches!(node.layer, Layer::Conv2d { .. } | Layer::Linear { .. });
            if let (true, Some(kept)) = (is_producer, &rows[at]) {
                smaller.note_kept(at, Kept::of(node.kept.as_ref(), self.shape(at)[0], kept));
            }
        }
        smaller.to_device(&self.device())
    }

    /// Zeroes channels in everything that makes or carries them, and keeps them so: what comes out is what it would be
    /// without them, at the same size and cost.
    pub fn mask_channels(&mut self, group: &Group, removed: &[usize]) -> Result<()> {
        for &node in group.producers.iter().chain(&group.carriers) {
            for place in self.nodes()[node].parameters.clone() {
                let parameter = self.parameters().at(place);
                if !parameter.role.trains() {
                    continue;
                }
                let name = parameter.name.clone();
                let each = parameter.value.elem_count() / group.channels;
                let mut mask = match &parameter.mask {
                    Some(mask) => values(mask)?,
                    None => vec![1.0; parameter.value.elem_count()],
                };
                for channel in removed {
                    mask[channel * each..(channel + 1) * each].fill(0.0);
                }
                self.parameters_mut().set_mask(&name, &mask)?;
            }
        }
        Ok(())
    }

    /// The same layers with weights drawn anew, as [`Network::chain`] says; masks, levels and statistics are new too.
    pub fn redrawn(&self, seed: u64) -> Result<Self> {
        let same = |_, node: &Node| vec![(node.name.clone(), node.layer.clone())];
        self.relaid(Some(seed), same)?.to_device(&self.device())
    }

    /// A network in which each node is replaced by a chain of layers, at least one, of which the last stands for the node;
    /// weights are drawn, or all 0 without a seed. It lies in main memory.
    pub fn relaid(
        &self,
        seed: Option<u64>,
        mut chain: impl FnMut(usize, &Node) -> Vec<(String, Layer)>,
    ) -> Result<Self> {
        let (name, input, classes) = (self.name(), self.input(), self.classes());
        let mut builder = match seed {
            Some(seed) => Builder::new(name, input, classes, seed),
            None => Builder::outline(name, input, classes),
        };
        let mut lies: Vec<usize> = Vec::with_capacity(self.nodes().len());
        for (at, node) in self.nodes().iter().enumerate() {
            let mut inputs: Vec<usize> = node.inputs.iter().map(|input| lies[*input]).collect();
            for (name, layer) in chain(at, node) {
                inputs = vec![builder.after(&inputs, &name, layer)?];
            }
            lies.extend(inputs.first());
        }
        let mut network = builder.finish()?;
        for (node, at) in self.nodes().iter().zip(lies) {
            if let Some(kept) = &node.kept {
                network.note_kept(at, kept.clone());
            }
        }
        Ok(network)
    }

    /// Takes over what a node of another network holds, where this one has a node of that name and shape.
    pub(crate) fn take(&mut self, from: &Self, node: &Node) -> Result<()> {
        for &place in &node.parameters {
            let of = from.parameters().at(place);
            self.parameters_mut().set(&of.name, &values(&of.value)?)?;
            let mask = of.mask.as_ref().map(values).transpose()?;
            if let Some(into) = self.parameters_mut().get_mut(&of.name) {
                into.levels.clone_from(&of.levels);
                into.mask = mask.map(|mask| beside(&into.value, &mask)).transpose()?;
            }
        }
        Ok(())
    }
}

fn narrow(layer: &mut Layer, channels: usize) {
    match layer {
        Layer::Conv2d { out_channels, .. } => *out_channels = channels,
        Layer::Linear { outputs, .. } => *outputs = channels,
        _ => {}
    }
}

/// What stays of a parameter: some rows, and of a weight some columns.
struct Part<'a> {
    dims: &'a [usize],
    rows: Option<&'a [usize]>,
    columns: Option<&'a [usize]>,
}

impl Part<'_> {
    fn of(&self, values: &[f32]) -> Vec<f32> {
        let rows = self.dims[0];
        let columns = self.dims.get(1).copied().unwrap_or(1);
        let each: usize = self.dims.iter().skip(2).product();
        let all = |n: usize| (0..n).collect::<Vec<_>>();
        let kept_rows = self.rows.map_or_else(|| all(rows), <[usize]>::to_vec);
        let kept_columns = self.columns.map_or_else(|| all(columns), <[usize]>::to_vec);
        let mut part = Vec::with_capacity(kept_rows.len() * kept_columns.len() * each);
        for row in kept_rows {
            for column in &kept_columns {
                let first = (row * columns + column) * each;
                part.extend_from_slice(&values[first..first + each]);
            }
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::ImageShape;

    const IMAGE: ImageShape = ImageShape {
        channels: 3,
        height: 8,
        width: 8,
    };

    fn normalize() -> Layer {
        Layer::Normalize {
            mean: vec![0.5; 3],
            std: vec![0.25; 3],
        }
    }

    fn names(network: &Network, nodes: &[usize]) -> Vec<String> {
        nodes
            .iter()
            .map(|node| network.nodes()[*node].name.clone())
            .collect()
    }

    /// A stem whose channels a block adds to, a depthwise convolution, and features that are flattened.
    fn network() -> Network {
        let mut b = Builder::new("made-up", IMAGE, 2, 7);
        b.then("normalize", normalize()).unwrap();
        b.then("stem", Layer::conv_without_bias(6, 3, 1, 1))
            .unwrap();
        b.then("stem.bn", Layer::batch_norm()).unwrap();
        let stem = b.then("stem.relu", Layer::Relu).unwrap();
        b.then("inner", Layer::conv3x3(4, 1, 1)).unwrap();
        b.then("inner.relu", Layer::Relu).unwrap();
        b.then("outer", Layer::conv3x3(6, 1, 1)).unwrap();
        let outer = b.then("outer.bn", Layer::batch_norm()).unwrap();
        b.after(&[outer, stem], "sum", Layer::Add).unwrap();
        b.then("depthwise", Layer::depthwise3x3(2)).unwrap();
        b.then("flatten", Layer::Flatten).unwrap();
        b.then("fc1", Layer::linear(5)).unwrap();
        b.then("fc1.relu", Layer::Relu).unwrap();
        b.then("fc2", Layer::linear(2)).unwrap();
        b.finish().unwrap()
    }

    #[test]
    fn what_a_sum_joins_is_one_group_and_images_and_logits_are_none() {
        let network = network();
        let groups = groups(&network);
        let facts: Vec<_> = groups
            .iter()
            .map(|g| (g.channels, names(&network, &g.producers)))
            .collect();
        let strings = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            facts,
            [
                (6, strings(&["stem", "outer"])),
                (4, strings(&["inner"])),
                (5, strings(&["fc1"])),
            ]
        );
        let carriers = names(&network, &groups[0].carriers);
        assert_eq!(carriers, ["stem.bn", "outer.bn", "depthwise"]);
        let consumers: Vec<_> = groups[0].consumers.iter().map(|c| c.node).collect();
        assert_eq!(names(&network, &consumers), ["inner", "fc1"]);
        let positions: Vec<_> = groups[0].consumers.iter().map(|c| c.positions).collect();
        assert_eq!(positions, [1, 16]);
    }

    /// By hand: stem 2·27, bn 2·2, inner 4·18 + 4, outer 2·36 + 2, bn 2·2, depthwise 2·9, fc1 3·32 + 3, fc2 2·3 + 2.
    #[test]
    fn widths_follow_everywhere() {
        let network = network();
        let groups = groups(&network);
        let kept = [
            (groups[0].clone(), vec![1, 4]),
            (groups[2].clone(), vec![0, 2, 3]),
        ];
        let smaller = network.with_channels(&kept).unwrap();
        assert_eq!(
            smaller.parameters().count(),
            54 + 4 + 76 + 74 + 4 + 18 + 99 + 8
        );
        // The flattened features of channel 4 are 64 to 79 of each row.
        let before = network.parameters().values("fc1.weight").unwrap();
        let after = smaller.parameters().values("fc1.weight").unwrap();
        assert_eq!(after[16..32], before[64..80]);
        assert_eq!(after[32..48], before[2 * 96 + 16..2 * 96 + 32]);
        // What went is remembered through a second time.
        let again = super::groups(&smaller);
        let twice = smaller
            .with_channels(&[(again[0].clone(), vec![1])])
            .unwrap();
        let stem = twice.position("stem").unwrap();
        let kept = twice.nodes()[stem].kept.clone().unwrap();
        assert_eq!((kept.of, kept.channels), (6, vec![4]));
    }

    #[test]
    fn no_group_loses_everything() {
        let network = network();
        let groups = groups(&network);
        for kept in [vec![], vec![6], vec![2, 1]] {
            let error = network.with_channels(&[(groups[0].clone(), kept)]);
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with("stem has 6 channels, of which some must stay"));
        }
    }
}
