//! What attacks climb: losses of one image's logits, and their gradients with respect to the logits.
//!
//! Cross-entropy: log Σ exp(z) - z_y; gradient softmax(z) - onehot(y).
//! Difference of logits ratio (Croce and Hein 2020, arXiv:2003.01690, equation 6), π the order of falling logits:
//! -(z_y - max_{i≠y} z_i) / (z_π1 - z_π3 + 1e-12); towards a target t (equation 7):
//! -(z_y - z_t) / (z_π1 - (z_π3 + z_π4) / 2 + 1e-12). Neither changes when all logits are scaled, and so neither saturates.
//! Margin: max_{i≠y} z_i - z_y.
//! Computed in 64 bits; only the gradient is rounded to 32.

/// A loss that an attack makes larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    CrossEntropy,
    /// Minus the target's own cross-entropy.
    TargetedCrossEntropy,
    Dlr,
    TargetedDlr,
    Margin,
}

/// Keeps a quotient finite, as the official code does.
const TINY: f64 = 1e-12;

impl Loss {
    /// As many logits as it compares.
    pub fn fewest_classes(self) -> usize {
        match self {
            Self::CrossEntropy | Self::TargetedCrossEntropy | Self::Margin => 2,
            Self::Dlr => 3,
            Self::TargetedDlr => 4,
        }
    }

    /// The loss, and its gradient in `d`; `target` is looked at by targeted losses alone. Logits are as many as the loss
    /// needs, which [`crate::lab::attack::Attack::fewest_classes`] promises.
    pub fn of(self, logits: &[f32], label: usize, target: usize, d: &mut [f32]) -> f64 {
        d.fill(0.0);
        match self {
            Self::CrossEntropy => cross_entropy(logits, label, 1.0, d),
            Self::TargetedCrossEntropy => -cross_entropy(logits, target, -1.0, d),
            Self::Margin => {
                let other = best_other(logits, label);
                d[label] = -1.0;
                d[other] = 1.0;
                f64::from(logits[other]) - f64::from(logits[label])
            }
            Self::Dlr => {
                let order = falling(logits);
                let other = if order[0] == label {
                    order[1]
                } else {
                    order[0]
                };
                ratio(
                    logits,
                    label,
                    other,
                    &[(order[0], 1.0), (order[2], -1.0)],
                    d,
                )
            }
            Self::TargetedDlr => {
                let order = falling(logits);
                let below = [(order[0], 1.0), (order[2], -0.5), (order[3], -0.5)];
                ratio(logits, label, target, &below, d)
            }
        }
    }
}

/// The place of the highest logit, the first of equals.
pub fn highest(logits: &[f32]) -> usize {
    let mut best = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = class;
        }
    }
    best
}

/// The class of the highest logit but the label's; right for logits below zero too.
pub fn best_other(logits: &[f32], label: usize) -> usize {
    let mut best = usize::from(label == 0);
    for (class, logit) in logits.iter().enumerate() {
        if class != label && *logit > logits[best] {
            best = class;
        }
    }
    best
}

/// Classes by falling logit, equals in their own order.
pub fn falling(logits: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    order
}

/// The cross-entropy; `d` gets `sign` times its gradient.
fn cross_entropy(logits: &[f32], label: usize, sign: f64, d: &mut [f32]) -> f64 {
    let most = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let each = |z: &f32| (f64::from(*z) - f64::from(most)).exp();
    let sum: f64 = logits.iter().map(each).sum();
    let mut others = 0.0;
    for (class, (d, z)) in d.iter_mut().zip(logits).enumerate() {
        if class != label {
            let share = each(z) / sum;
            others += share;
            *d = (sign * share) as f32;
        }
    }
    // As the sum of the others: 1 - p would be nothing where p is nearly 1.
    d[label] = (-sign * others) as f32;
    sum.ln() + f64::from(most) - f64::from(logits[label])
}

/// -(z_label - z_other) / Σ weights z, and its gradient.
fn ratio(logits: &[f32], label: usize, other: usize, below: &[(usize, f64)], d: &mut [f32]) -> f64 {
    let z = |class: usize| f64::from(logits[class]);
    let above = z(other) - z(label);
    let width: f64 = below
        .iter()
        .map(|(class, weight)| weight * z(*class))
        .sum::<f64>()
        + TINY;
    let mut gradient = vec![0.0_f64; logits.len()];
    gradient[label] -= 1.0 / width;
    gradient[other] += 1.0 / width;
    for (class, weight) in below {
        gradient[*class] -= above / (width * width) * weight;
    }
    for (d, own) in d.iter_mut().zip(gradient) {
        *d = own as f32;
    }
    above / width
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(loss: Loss, logits: &[f32], label: usize, target: usize) -> (f64, Vec<f32>) {
        let mut d = vec![0.0; logits.len()];
        (loss.of(logits, label, target, &mut d), d)
    }

    /// Definitions O-14.
    #[test]
    fn the_difference_of_logits_ratio_is_the_published_one() {
        let z = [3.0, 1.0, 0.5, -1.0];
        let scaled = z.map(|z| 100.0 * z);
        for (loss, label, target, expected) in [
            (Loss::Dlr, 0, 0, -0.8),
            (Loss::Dlr, 1, 0, 0.8),
            (Loss::TargetedDlr, 0, 1, -0.615_384_6),
        ] {
            let found = of(loss, &z, label, target).0;
            assert!((found - expected).abs() < 1e-6, "{loss:?} {found}");
            let found = of(loss, &scaled, label, target).0;
            assert!((found - expected).abs() < 1e-6, "scaled: {loss:?} {found}");
        }
    }

    /// Definitions O-12: softmax(2, 1, -3) = (.727475, .267623, .004902).
    #[test]
    fn the_cross_entropy_has_its_own_gradient() {
        let (loss, d) = of(Loss::CrossEntropy, &[2.0, 1.0, -3.0], 0, 0);
        assert!((loss + 0.727_475_f64.ln()).abs() < 1e-5);
        for (found, expected) in d.iter().zip([0.727_475 - 1.0, 0.267_623, 0.004_902]) {
            assert!((found - expected as f32).abs() < 1e-6);
        }
        // Saturated: what 32 bits of a probability would not show is there.
        let (_, d) = of(Loss::CrossEntropy, &[50.0, 0.0], 0, 0);
        assert!(d[0] < 0.0 && d[1] > 0.0);
        let (_, d) = of(Loss::CrossEntropy, &[10_000.0, 0.0], 0, 0);
        assert_eq!(d, [0.0, 0.0]);
    }

    /// Central differences of the loss itself.
    #[test]
    fn gradients_are_those_of_the_losses() {
        let z = [1.5_f32, -0.25, 0.75, 2.5, -1.0];
        for loss in [
            Loss::CrossEntropy,
            Loss::TargetedCrossEntropy,
            Loss::Dlr,
            Loss::TargetedDlr,
            Loss::Margin,
        ] {
            for label in [0, 3] {
                let (_, d) = of(loss, &z, label, 2);
                for class in 0..z.len() {
                    let at = |by: f32| {
                        let mut moved = z;
                        moved[class] += by;
                        of(loss, &moved, label, 2).0
                    };
                    let slope = (at(1.0 / 256.0) - at(-1.0 / 256.0)) * 128.0;
                    assert!(
                        (slope - f64::from(d[class])).abs() < 1e-4,
                        "{loss:?} {label} {class}"
                    );
                }
            }
        }
    }

    /// Definitions O-18: of logits below zero the other one is the highest of them, and no 0 that stands for the label.
    #[test]
    fn the_best_other_class_is_one_of_the_logits() {
        assert_eq!(best_other(&[-1.0, -2.0, -3.0], 0), 1);
        assert_eq!(of(Loss::Margin, &[-1.0, -2.0, -3.0], 0, 0).0, -1.0);
        assert_eq!(best_other(&[1.0, 1.0], 1), 0);
    }
}
