//! A whole network in one file: its graph beside its parameters, so that what a compression made of an architecture is
//! read back without the architecture.
//!
//! The file is the one of [`crate::nn::parameters::packed`], any safetensors reader opens it; the graph stands in its
//! metadata: `{"name": "cnn8", "input": [1, 28, 28], "classes": 10, "nodes": [{"name": "conv1", "layer": {"is": "conv2d",
//! ...}, "inputs": [0]}, ...]}`, with the mean and deviation that are taken off in the first node, and the channels that
//! each layer kept of those it was laid out with.

use serde::{Deserialize, Serialize};

use super::{Builder, Kept, Network};
use crate::event::KeptChannels;
use crate::nn::layer::Layer;
use crate::nn::parameters::packed;
use crate::nn::{ImageShape, Result, invalid};

/// What a file says of a network beside its parameters.
#[derive(Debug, Serialize, Deserialize)]
struct Graph {
    name: String,
    /// Channels, height, width.
    input: [usize; 3],
    classes: usize,
    nodes: Vec<Laid>,
    /// What whoever wrote it wants to find again.
    #[serde(default)]
    remark: serde_json::Value,
}

#[derive(Debug, Serialize, Deserialize)]
struct Laid {
    name: String,
    layer: Layer,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<KeptChannels>,
}

/// A network as it was read, and what its writer wanted to find again.
#[derive(Debug)]
pub struct Filed {
    pub network: Network,
    pub remark: serde_json::Value,
}

impl Network {
    /// The network as a file in which every tensor has its cheapest form.
    ///
    /// # Errors
    /// When it lies on a GPU that does not answer.
    pub fn to_file(&self, remark: &serde_json::Value) -> Result<Vec<u8>> {
        let laid = |node: &super::Node| Laid {
            name: node.name.clone(),
            layer: node.layer.clone(),
            inputs: node.inputs.clone(),
            kept: node
                .kept
                .as_ref()
                .map(|kept| KeptChannels::new(kept.of as u32, kept.channels.iter().copied())),
        };
        let graph = Graph {
            name: self.name.clone(),
            input: [self.input.channels, self.input.height, self.input.width],
            classes: self.classes,
            nodes: self.nodes.iter().map(laid).collect(),
            remark: remark.clone(),
        };
        let graph = serde_json::to_value(graph)
            .map_err(|error| invalid(format!("the network cannot be written: {error}")))?;
        self.parameters.to_packed_with(Some(graph))
    }

    /// The network of a file that [`Network::to_file`] wrote; nothing where the file holds parameters alone.
    ///
    /// # Errors
    /// When the graph is none, or the parameters are another's.
    pub fn from_file(bytes: &[u8]) -> Result<Option<Filed>> {
        let Some(graph) = packed::network(bytes)? else {
            return Ok(None);
        };
        let wrong = |error: &dyn std::fmt::Display| {
            invalid(format!("the file's network cannot be read: {error}"))
        };
        let graph: Graph = serde_json::from_value(graph).map_err(|error| wrong(&error))?;
        let [channels, height, width] = graph.input;
        let input = ImageShape {
            channels,
            height,
            width,
        };
        let mut builder = Builder::outline(&graph.name, input, graph.classes);
        for node in graph.nodes {
            let at = builder
                .after(&node.inputs, &node.name, node.layer)
                .map_err(|error| wrong(&error))?;
            builder.network.nodes[at].kept = node.kept.map(|kept| Kept {
                of: kept.of() as usize,
                channels: kept.kept().to_vec(),
            });
        }
        let mut network = builder.finish().map_err(|error| wrong(&error))?;
        network.parameters.load_packed(bytes)?;
        Ok(Some(Filed {
            network,
            remark: graph.remark,
        }))
    }
}
