//! Bias correction: rounded weights move the mean of what a layer gives, and its bias moves it back.
//!
//! b ← b - (E[Ŵx̂ + b] - E[Wx + b]) for each output channel, over the calibration images; layer by layer, so that each
//! correction sees those before it. Nagel et al. 2019, arXiv:1906.04721, section 4.2 (the empirical form, as in AIMET).

use crate::lab::context::Context;
use crate::lab::error::{Error, Result};
use crate::lab::quantization::calibration::Sample;
use crate::lab::quantization::places::{parameter, weighted};
use crate::nn::network::Network;
use crate::nn::parameters::ParameterRole;

/// Corrects the biases of a rounded network against the same one in floats; yields how many layers were corrected and how
/// many have no bias.
///
/// # Errors
/// As [`Sample::through`].
pub fn correct(
    rounded: &mut Network,
    floats: &Network,
    sample: &Sample<'_>,
    cx: &mut Context<'_>,
) -> Result<(usize, usize)> {
    let layers = weighted(floats);
    let means = sample.means(floats, &layers, cx)?;
    let (mut corrected, mut without) = (0, 0);
    for (&at, mean) in layers.iter().zip(&means) {
        let Some(bias) = parameter(floats, at, ParameterRole::Bias) else {
            without += 1;
            continue;
        };
        let name = &floats.nodes()[at].name;
        let place = rounded
            .position(name)
            .ok_or_else(|| Error::Internal(format!("{name} is not in the rounded network")))?;
        let found = sample.means(rounded, &[place], cx)?;
        let mut values = rounded.parameters().values(&bias)?;
        for ((b, found), mean) in values.iter_mut().zip(&found[0]).zip(mean) {
            *b -= (found - mean) as f32;
        }
        rounded.parameters_mut().set(&bias, &values)?;
        corrected += 1;
    }
    Ok((corrected, without))
}
