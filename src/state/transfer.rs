//! Who was asked of images that were made against whom.

use super::{NetworkState, State};
use crate::measurement::{Measurement, Metric};

/// What was found of `to` on images made against `from`.
pub fn asked<'a>(to: &'a NetworkState, from: &NetworkState) -> Option<&'a Measurement> {
    let mut found = to.measurements.iter();
    found.rfind(|found| {
        found.metric == Metric::TransferAccuracy && found.against == Some(from.plan.id)
    })
}

/// The networks of every matrix: those that were asked of one another, since they are asked the same images. References of
/// other data are in another one.
pub fn matrices(state: &State) -> Vec<Vec<&NetworkState>> {
    let mut all: Vec<Vec<&NetworkState>> = Vec::new();
    let networks = state.networks.iter().map(|network| &**network);
    for network in networks.filter(|network| asked(network, network).is_some()) {
        let is_of = |matrix: &&mut Vec<&NetworkState>| {
            let mut others = matrix.iter();
            others.any(|other| asked(network, other).is_some() || asked(other, network).is_some())
        };
        match all.iter_mut().find(is_of) {
            Some(matrix) => matrix.push(network),
            None => all.push(vec![network]),
        }
    }
    all
}
