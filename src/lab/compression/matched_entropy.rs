//! Labels in a teacher's place, as uncertain as it: the control that keeps a distillation's soft targets and takes away what
//! they know of wrong classes.
//!
//! A label spread by the share e has 1 - e + e / K for its own class and e / K for each other; e is such that its entropy is
//! the mean entropy of softmax(z_t / T) over some training images.

use crate::lab::context::Context;
use crate::lab::error::Result;
use crate::lab::outputs::logits;
use crate::nn::network::Workspace;

use super::Start;

/// Training images on which the teacher's uncertainty is measured.
const SAMPLE: usize = 1000;

/// The share of a label that has to be spread to be as uncertain as the network's answers at the temperature are on
/// average over some training images.
pub(super) fn smoothing(start: &Start<'_>, temperature: f64, cx: &mut Context<'_>) -> Result<f64> {
    let data = start.subject.data;
    let train = data.train.select(&data.split.train);
    let sample = train.select(&train.stratified(SAMPLE, start.subject.seed));
    let mut workspace = Workspace::default();
    let between = &mut || cx.checkpoint();
    let rows = logits(start.network, &sample, &mut workspace, between)?;
    let classes = start.network.classes();
    let rows = rows.chunks_exact(classes);
    let n = rows.len() as f64;
    let mean = rows.map(|row| entropy_at(row, temperature)).sum::<f64>() / n;
    Ok(as_uncertain(mean, classes))
}

/// The entropy of softmax(z / T) in nats.
fn entropy_at(logits: &[f32], temperature: f64) -> f64 {
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let shifted: Vec<f64> = logits
        .iter()
        .map(|z| (f64::from(*z) - highest) / temperature)
        .collect();
    let sum: f64 = shifted.iter().map(|z| z.exp()).sum();
    let terms = shifted.iter().map(|z| z.exp() / sum * (sum.ln() - z));
    terms.sum()
}

/// The share that is spread over all classes of a label with that entropy; it grows with it.
fn as_uncertain(entropy: f64, classes: usize) -> f64 {
    let k = classes as f64;
    let of = |share: f64| {
        let (own, other) = (1.0 - share + share / k, share / k);
        -(own * own.ln() + (k - 1.0) * other * other.ln())
    };
    // A label that is spread by nothing has no logarithm for its other classes.
    let (mut below, mut above) = (1e-9, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (below + above);
        if of(middle) < entropy {
            below = middle;
        } else {
            above = middle;
        }
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SciPy 1.17: `scipy.stats.entropy(scipy.special.softmax(numpy.array([2, 0, -1]) / 3))` = 1.0094442.
    #[test]
    fn labels_become_as_uncertain_as_a_teacher() {
        let entropy = entropy_at(&[2.0, 0.0, -1.0], 3.0);
        assert!((entropy - 1.009_444_2).abs() < 1e-6, "{entropy}");
        let share = as_uncertain(entropy, 3);
        let row = [1.0 - share + share / 3.0, share / 3.0, share / 3.0];
        let found: f64 = row.iter().map(|p| -p * p.ln()).sum();
        assert!((found - entropy).abs() < 1e-9, "{found}");
        assert!(as_uncertain(3.0_f64.ln(), 3) > 0.999);
        assert!(as_uncertain(0.0, 3) < 1e-8);
    }
}
