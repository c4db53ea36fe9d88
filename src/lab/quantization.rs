//! What the methods that round have in common: which levels, from which ranges, and where in a network.
//!
//! q = clamp(round(x / s) + z, q_min, q_max), x̂ = s (q - z), halves to even; Jacob et al. 2018, arXiv:1712.05877.
//! Weights keep levels of their own. Activations are rounded where integer inference would store them: the normalized
//! images, after each convolution or linear layer with the batch normalization and the ReLU that follow it, after each sum
//! with its ReLU, and after means. Biases are 32-bit integers at the scale of the products they are added to, s_x s_w.

use crate::lab::compression::Start;
use crate::lab::error::{Error, Result};
use crate::nn::network::Network;
use crate::nn::op::fake_quant::Levels;
use crate::nn::parameters::{ParameterRole, RowLevels};

pub mod bias_correction;
pub mod calibration;
pub mod equalization;
pub mod knobs;
pub mod levels;
pub mod places;
pub mod ranges;
pub mod rounding;

use places::{parameter, stored_before};

/// The quantizers behind some places of a network.
pub struct Activations {
    /// The names of the nodes, in order.
    pub places: Vec<String>,
    pub levels: Vec<Levels>,
}

impl Activations {
    /// Puts a quantizer behind each place.
    ///
    /// # Errors
    /// candle's.
    pub fn insert(&self, network: &mut Network) -> Result<()> {
        for (place, levels) in self.places.iter().zip(&self.levels) {
            network.insert_after(place, &format!("{place}.levels"), (*levels).into())?;
        }
        Ok(())
    }
}

/// Puts every bias on the levels of the sums that it is added to; where activations stay floats, so do biases.
///
/// # Errors
/// When a layer reads no rounded activation although others do.
pub fn round_biases(network: &mut Network) -> Result<()> {
    if !network
        .nodes()
        .iter()
        .any(|node| node.layer.levels().is_some())
    {
        return Ok(());
    }
    for at in 0..network.nodes().len() {
        let (Some(weight), Some(bias)) = (
            parameter(network, at, ParameterRole::Weight),
            parameter(network, at, ParameterRole::Bias),
        ) else {
            continue;
        };
        let weight = network.parameters().get(&weight);
        let Some(weight) = weight.and_then(|weight| weight.levels.as_ref()) else {
            continue;
        };
        let read = stored_before(network, at).ok_or_else(|| {
            let name = &network.nodes()[at].name;
            Error::Internal(format!("no activation is stored before {name}"))
        })?;
        let sums = weight
            .all()
            .iter()
            .map(|of| levels::of_sums(read.scale * of.scale));
        let sums = RowLevels::new(sums.collect())?;
        network.parameters_mut().set_levels(&bias, Some(sums))?;
    }
    Ok(())
}

/// A copy of the network to begin with: in floats, whatever rounded it before, and with its batch normalizations in the
/// convolutions before them if they shall be. Says what was done to it.
///
/// # Errors
/// candle's, when memory runs out.
pub fn begun(start: &Start<'_>, folds: bool) -> Result<(Network, Vec<String>)> {
    let mut network = start.network.duplicate()?;
    let mut remarks = Vec::new();
    let was = network
        .parameters()
        .iter()
        .any(|parameter| parameter.levels.is_some());
    if network.dequantize() > 0 || was {
        remarks.push("an earlier quantization was taken away first".to_owned());
    }
    if folds {
        let folded = network.fold_normalizations()?;
        if folded > 0 {
            remarks.push(format!(
                "{folded} batch normalizations were folded into the convolutions before them"
            ));
        }
    }
    Ok((network, remarks))
}
