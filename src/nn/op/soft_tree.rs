//! A soft decision tree over features: questions at inner nodes, distributions at leaves; Frosst and Hinton 2017,
//! arXiv:1711.09784.
//!
//! p_i = σ(β (x·w_i + b_i)) is the probability of going right at node i, P^n that of coming to node n, the product along
//! its path. Leaf l holds Q^l = softmax(φ_l).
//! x (B, D), W (I, D), b (I), φ (L, K), y (B, K); I = 2^depth - 1 questions and L = 2^depth leaves, from left to right.
//! The nodes are numbered level by level: those below node i are 2i + 1 (left) and 2i + 2 (right).
//!
//! In training y_k = Σ_l P^l log Q^l_k, of which [`crate::nn::loss::expected_log`] makes the publication's loss,
//! Σ_l P^l (-Σ_k T_k log Q^l_k); its printed form takes one more logarithm, of a negative number.
//! In use y = log Q of the leaf with the largest P^l, or y = log Σ_l P^l Q^l: log-probabilities, whose softmax is the
//! distribution.
//!
//! Going backward in training adds the gradient of the penalty -λ Σ_i 2^-depth(i) ½ (log α_i + log(1 - α_i)) with
//! α_i = Σ_x P^i p_i / Σ_x P^i over the batch. Deviation: the publication averages α over batches.
//! The choice of a leaf has no gradient: in use that of the mean over all leaves stands in for it, so that an attack sees
//! which way the tree can be turned.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::gemm::{Into, Matrix, multiply};
use super::{parts, shares};

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

/// Of 2^12 leaves most are never seen by a data set of these sizes.
pub const DEEPEST: usize = 12;

/// What a tree in use answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// The distribution of the most probable leaf.
    MaxPath,
    /// The mean of all leaves.
    Expected,
}

/// What a pass writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The expected log-probabilities that training needs.
    Scores,
    Log(Prediction),
}

/// A tree's shape and constants.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    pub depth: usize,
    pub features: usize,
    pub classes: usize,
    /// β.
    pub beta: f64,
    /// λ.
    pub penalty: f64,
}

/// A tree's parameters.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    pub w: &'a [f32],
    pub b: &'a [f32],
    pub leaves: &'a [f32],
}

/// The gradients that are written, each if it is wanted.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    pub dx: Option<&'a mut [f32]>,
    pub dw: Option<&'a mut [f32]>,
    pub db: Option<&'a mut [f32]>,
    pub d_leaves: Option<&'a mut [f32]>,
}

/// Below this share of a batch nothing comes to a node, and it is asked no price; α stays as far from 0 and 1.
const LEAST_SHARE: f64 = 1e-6;

/// The smallest probability of which a logarithm is taken.
const LEAST: f64 = 1e-30;

impl Tree {
    pub fn questions(&self) -> usize {
        (1 << self.depth) - 1
    }

    pub fn leaves(&self) -> usize {
        1 << self.depth
    }

    fn nodes(&self) -> usize {
        self.questions() + self.leaves()
    }

    /// log Q, (L, K).
    fn log_leaves(&self, leaves: &[f32]) -> Vec<f64> {
        let rows = leaves.chunks_exact(self.classes).flat_map(|row| {
            let highest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let sum: f64 = row.iter().map(|v| (f64::from(*v) - highest).exp()).sum();
            let log_sum = highest + sum.ln();
            row.iter().map(move |v| f64::from(*v) - log_sum)
        });
        rows.collect()
    }

    /// The probability of going right at each question, (B, I).
    fn answers(&self, x: &[f32], values: Values<'_>) -> Vec<f32> {
        let (d, i) = (self.features, self.questions());
        let batch = x.len() / d.max(1);
        let mut p = vec![0.0; batch * i];
        let split = parts(batch);
        let rows = shares(&mut p, &split, i);
        split.into_par_iter().zip(rows).for_each(|(part, p)| {
            let x = Matrix::rows(&x[part.start * d..part.end * d], d);
            let w = Matrix::transposed(values.w, d);
            multiply((part.len(), i, d), p, i, Into::Replace, x, w);
            for row in p.chunks_exact_mut(i) {
                for (p, b) in row.iter_mut().zip(values.b) {
                    let z = self.beta * (f64::from(*p) + f64::from(*b));
                    *p = (1.0 / (1.0 + (-z).exp())) as f32;
                }
            }
        });
        p
    }

    /// The probability of coming to each node.
    fn paths(&self, p: &[f32]) -> Vec<f64> {
        let mut paths = vec![1.0; self.nodes()];
        for (i, p) in p.iter().enumerate() {
            let p = f64::from(*p);
            paths[2 * i + 1] = paths[i] * (1.0 - p);
            paths[2 * i + 2] = paths[i] * p;
        }
        paths
    }

    /// y for every example.
    pub fn forward(&self, output: Output, x: &[f32], values: Values<'_>, y: &mut [f32]) {
        let p = self.answers(x, values);
        let log_q = self.log_leaves(values.leaves);
        let k = self.classes;
        y.par_chunks_exact_mut(k)
            .zip(p.par_chunks_exact(self.questions()))
            .for_each(|(y, p)| {
                let paths = self.paths(p);
                let leaves = &paths[self.questions()..];
                match output {
                    Output::Scores => {
                        for (class, y) in y.iter_mut().enumerate() {
                            let terms = leaves.iter().enumerate();
                            *y = terms.map(|(l, p)| p * log_q[l * k + class]).sum::<f64>() as f32;
                        }
                    }
                    Output::Log(Prediction::Expected) => {
                        for (y, mean) in y.iter_mut().zip(mixture(leaves, &log_q, k)) {
                            *y = mean.max(LEAST).ln() as f32;
                        }
                    }
                    Output::Log(Prediction::MaxPath) => {
                        let better = |best, l| if leaves[l] > leaves[best] { l } else { best };
                        let best = (0..leaves.len()).fold(0, better);
                        for (y, log_q) in y.iter_mut().zip(&log_q[best * k..]) {
                            *y = *log_q as f32;
                        }
                    }
                }
            });
    }

    /// The penalty of a batch.
    pub fn penalty(&self, x: &[f32], values: Values<'_>) -> f64 {
        let p = self.answers(x, values);
        let paths = self.all_paths(&p);
        let price = |(i, alpha): (usize, Option<f64>)| {
            let alpha = alpha?;
            Some(-self.price(i) * 0.5 * (alpha.ln() + (1.0 - alpha).ln()))
        };
        let (alphas, _) = self.alphas(&p, &paths);
        alphas.into_iter().enumerate().filter_map(price).sum()
    }

    /// λ 2^-depth of a question.
    fn price(&self, question: usize) -> f64 {
        self.penalty / f64::from(1_u32 << (question + 1).ilog2())
    }

    fn all_paths(&self, p: &[f32]) -> Vec<Vec<f64>> {
        p.par_chunks_exact(self.questions())
            .map(|p| self.paths(p))
            .collect()
    }

    /// α of each question that enough examples come to, and Σ_x P of each.
    fn alphas(&self, p: &[f32], paths: &[Vec<f64>]) -> (Vec<Option<f64>>, Vec<f64>) {
        let questions = self.questions();
        let (mut right, mut all) = (vec![0.0; questions], vec![0.0; questions]);
        for (p, paths) in p.chunks_exact(questions).zip(paths) {
            for (i, p) in p.iter().enumerate() {
                right[i] += paths[i] * f64::from(*p);
                all[i] += paths[i];
            }
        }
        let least = LEAST_SHARE * paths.len() as f64;
        let alpha = |(right, all): (&f64, &f64)| {
            (*all > least).then(|| (right / all).clamp(LEAST_SHARE, 1.0 - LEAST_SHARE))
        };
        let alphas = right.iter().zip(&all).map(alpha).collect();
        (alphas, all)
    }

    /// The gradients that are wanted.
    pub fn backward(
        &self,
        output: Output,
        x: &[f32],
        values: Values<'_>,
        dy: &[f32],
        wanted: Wanted<'_>,
    ) {
        let (d, i, k) = (self.features, self.questions(), self.classes);
        let batch = dy.len() / k;
        let p = self.answers(x, values);
        let paths = self.all_paths(&p);
        let log_q = self.log_leaves(values.leaves);
        // What each example says of a leaf's log-probability, for P^l = 1.
        let of_leaf = |paths: &[f64], dy: &[f32]| -> Vec<f64> {
            match output {
                Output::Scores => dy.iter().map(|dy| f64::from(*dy)).collect(),
                Output::Log(_) => {
                    let mean = mixture(&paths[i..], &log_q, k);
                    let ratio = |(dy, mean): (&f32, f64)| f64::from(*dy) / mean.max(LEAST);
                    dy.iter().zip(mean).map(ratio).collect()
                }
            }
        };
        let prices = match output {
            Output::Scores if self.penalty > 0.0 => Some(self.alphas(&p, &paths)),
            _ => None,
        };
        let mut dz = vec![0.0; batch * i];
        dz.par_chunks_exact_mut(i)
            .zip(p.par_chunks_exact(i))
            .zip(paths.par_iter().zip(dy.par_chunks_exact(k)))
            .for_each(|((dz, p), (paths, dy))| {
                let g = of_leaf(paths, dy);
                let mut d_path = vec![0.0; self.nodes()];
                for (l, d_path) in d_path[i..].iter_mut().enumerate() {
                    let log_q = &log_q[l * k..][..k];
                    let terms = g.iter().zip(log_q);
                    *d_path = match output {
                        Output::Scores => terms.map(|(g, log_q)| g * log_q).sum(),
                        Output::Log(_) => terms.map(|(g, log_q)| g * log_q.exp()).sum(),
                    };
                }
                for at in (0..i).rev() {
                    let p = f64::from(p[at]);
                    let (left, right) = (d_path[2 * at + 1], d_path[2 * at + 2]);
                    let mut d_p = paths[at] * (right - left);
                    d_path[at] = (1.0 - p) * left + p * right;
                    if let Some((alphas, all)) = &prices
                        && let Some(alpha) = alphas[at]
                    {
                        let d_alpha = -self.price(at) * 0.5 * (1.0 / alpha - 1.0 / (1.0 - alpha));
                        d_p += d_alpha * paths[at] / all[at];
                        d_path[at] += d_alpha * (p - alpha) / all[at];
                    }
                    dz[at] = (d_p * p * (1.0 - p) * self.beta) as f32;
                }
            });
        if let Some(d_leaves) = wanted.d_leaves {
            let mut sums = vec![0.0; self.leaves() * k];
            for (paths, dy) in paths.iter().zip(dy.chunks_exact(k)) {
                let g = of_leaf(paths, dy);
                for ((sums, log_q), path) in sums
                    .chunks_exact_mut(k)
                    .zip(log_q.chunks_exact(k))
                    .zip(&paths[i..])
                {
                    for ((sum, log_q), g) in sums.iter_mut().zip(log_q).zip(&g) {
                        let own = match output {
                            Output::Scores => *g,
                            Output::Log(_) => g * log_q.exp(),
                        };
                        *sum += path * own;
                    }
                }
            }
            let rows = sums.chunks_exact(k).zip(log_q.chunks_exact(k));
            for (d, (sums, log_q)) in d_leaves.chunks_exact_mut(k).zip(rows) {
                let all: f64 = sums.iter().sum();
                for (d, (sum, log_q)) in d.iter_mut().zip(sums.iter().zip(log_q)) {
                    *d = (sum - log_q.exp() * all) as f32;
                }
            }
        }
        if let Some(db) = wanted.db {
            for (at, db) in db.iter_mut().enumerate() {
                *db = dz.iter().skip(at).step_by(i).sum();
            }
        }
        if let Some(dw) = wanted.dw {
            let (dz, x) = (Matrix::transposed(&dz, i), Matrix::rows(x, d));
            multiply((i, d, batch), dw, d, Into::Replace, dz, x);
        }
        if let Some(dx) = wanted.dx {
            let split = parts(batch);
            let rows = shares(dx, &split, d);
            split.into_par_iter().zip(rows).for_each(|(part, dx)| {
                let dz = Matrix::rows(&dz[part.start * i..part.end * i], i);
                let w = Matrix::rows(values.w, d);
                multiply((part.len(), d, i), dx, d, Into::Replace, dz, w);
            });
        }
    }
}

/// Σ_l P^l Q^l.
fn mixture(leaves: &[f64], log_q: &[f64], classes: usize) -> Vec<f64> {
    let mut mean = vec![0.0; classes];
    for (path, log_q) in leaves.iter().zip(log_q.chunks_exact(classes)) {
        for (mean, log_q) in mean.iter_mut().zip(log_q) {
            *mean += path * log_q.exp();
        }
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Tree = Tree {
        depth: 1,
        features: 2,
        classes: 2,
        beta: 1.0,
        penalty: 0.1,
    };
    const VALUES: Values<'static> = Values {
        w: &[1.0, -1.0],
        b: &[0.0],
        leaves: &[0.0, 0.0, 2.0, 0.0],
    };
    const X: [f32; 2] = [1.0, 0.5];

    /// Definitions O-11, by hand: p = σ(0.5).
    #[test]
    fn a_tree_of_one_question() {
        assert!((ONE.answers(&X, VALUES)[0] - 0.622_459_3).abs() < 1e-7);
        let mut scores = [0.0; 2];
        ONE.forward(Output::Scores, &X, VALUES, &mut scores);
        let loss = -(0.8 * f64::from(scores[0]) + 0.2 * f64::from(scores[1]));
        assert!((loss - 0.589_682_5).abs() < 1e-6, "{loss}");
        let mut y = [0.0; 2];
        ONE.forward(Output::Log(Prediction::Expected), &X, VALUES, &mut y);
        assert!((y[0].exp() - 0.737_030_7).abs() < 1e-6, "{y:?}");
        assert!((y[1].exp() - 0.262_969_3).abs() < 1e-6, "{y:?}");
        // softmax(2, 0), the right leaf's.
        ONE.forward(Output::Log(Prediction::MaxPath), &X, VALUES, &mut y);
        assert!((y[0].exp() - 0.880_797).abs() < 1e-6, "{y:?}");
        assert!((ONE.penalty(&X, VALUES) - 0.072_407_7).abs() < 1e-7);
    }

    #[test]
    fn probabilities_of_all_paths_sum_to_one() {
        let tree = Tree { depth: 4, ..ONE };
        let p: Vec<f32> = (0..15).map(|i| (i as f32 * 0.37).sin().abs()).collect();
        let paths = tree.paths(&p);
        assert!((paths[15..].iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(tree.price(0), 0.1);
        assert_eq!(
            [1, 2, 3, 6].map(|i| tree.price(i)),
            [0.05, 0.05, 0.025, 0.025]
        );
    }
}
