//! The budgets at which attacks are commonly reported, by data set, in pixels of [0, 1].
//!
//! Maximum norm: MNIST 0.3 (Madry et al. 2018, arXiv:1706.06083), Fashion-MNIST 0.1, CIFAR 8/255 (RobustBench).
//! Euclidean: CIFAR 0.5 (RobustBench); MNIST 1.5 (Croce and Hein 2020, arXiv:1907.02044, table 2).
//! Photographs of an image folder get CIFAR's.
//! Deviation: no Euclidean budget of Fashion-MNIST is common, and none at all of `glyphs` and USPS, which look like it and
//! like MNIST: they get those of the data set they look like, half of MNIST's Euclidean one for the finer textures.

use super::ball::Norm;

/// Budgets of the curve, in shares of the data set's: a quarter, a half, itself and twice as much. No budget, which is
/// clean accuracy, is on every curve.
const CURVE: [f64; 4] = [0.25, 0.5, 1.0, 2.0];

/// The budget of a data set.
pub fn usual(dataset: &str, norm: Norm) -> f64 {
    let digits = matches!(dataset, "mnist" | "usps");
    let color = dataset.starts_with("cifar") || dataset == "image-folder";
    match norm {
        Norm::Linf if digits => 0.3,
        Norm::Linf if color => 8.0 / 255.0,
        Norm::Linf => 0.1,
        Norm::L2 if digits => 1.5,
        Norm::L2 if color => 0.5,
        Norm::L2 => 0.75,
    }
}

/// The budgets of a curve, rising, 0 first: those that were asked for, or shares of the data set's usual one.
///
/// As published, budgets count in the document's units, in which the usual ones are given there.
pub fn curve(asked: &[f64], usual: f64) -> Vec<f64> {
    let mut curve: Vec<f64> = if asked.is_empty() {
        CURVE.iter().map(|share| share * usual).collect()
    } else {
        asked.to_vec()
    };
    curve.push(0.0);
    curve.sort_by(f64::total_cmp);
    curve.dedup();
    curve
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_no_budget_and_the_usual_one() {
        for (dataset, norm, usual) in [
            ("mnist", Norm::Linf, 0.3),
            ("fashion-mnist", Norm::Linf, 0.1),
            ("cifar10", Norm::Linf, 8.0 / 255.0),
            ("cifar100", Norm::L2, 0.5),
        ] {
            assert_eq!(super::usual(dataset, norm), usual);
            let curve = curve(&[], usual);
            assert_eq!((curve[0], curve[3]), (0.0, usual));
        }
        assert_eq!(curve(&[0.2, 0.1, 0.1], 0.3), [0.0, 0.1, 0.2]);
    }
}
