//! Low-rank factorization: a layer's matrix is replaced by a product of two thinner ones, computed one after the other.
//!
//! A weight is a matrix A of O rows (output channels) and n columns (I k² of a convolution, D of a linear layer). By its
//! singular values A = Σ σ_i u_i v_iᵀ, and the sum of the first r terms is the nearest matrix of rank r (Eckart and Young
//! 1936). It is computed as a layer with r outputs, √σ_i v_iᵀ, with the kernel, stride and padding of the old one, and
//! a 1x1 convolution or linear layer from r to O, √σ_i u_i, with its bias: r (O + n) weights instead of O n. Denton et al.
//! 2014, arXiv:1404.0736; Zhang et al. 2016, arXiv:1505.06798, without their correction for nonlinearities.
//!
//! Depthwise convolutions have nothing to factorize. A layer whose rank would not save anything stays as it is.
//! Singular values come from the eigenvalues of A Aᵀ or Aᵀ A, whichever is smaller, in 64 bits.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::event::Cost;
use crate::lab::compression::{Compressed, Compression, Start};
use crate::lab::context::{Context, Observer};
use crate::lab::error::{Error, Result};
use crate::lab::ratio::{self, RatioOf, Sizes};
use crate::nn::layer::Layer;
use crate::nn::network::{Network, Node};
use crate::nn::parameters::ParameterRole;

pub const ENTRY: Entry<dyn Compression> = Entry {
    info: Info {
        id: text("low-rank"),
        title: text("Low-rank factorization"),
        summary: text(
            "Replaces each convolution and linear layer by two thinner ones in a row, the nearest of their rank. \
             Parameters and multiply-accumulates shrink; there are more layers.",
        ),
        reference: text("arXiv:1404.0736"),
        family: text("factorization"),
        ratio_of: Some(text("parameters")),
    },
    knobs: &[
        Knob {
            id: text("ratio"),
            title: text("ratio"),
            summary: text("Share that is removed, of what `ratio of` says; 0 changes nothing."),
            range: Range::Real {
                least: 0.0,
                most: MOST,
                step: 0.05,
                default: 0.5,
            },
        },
        ratio::knob("parameters", ratio::WITHOUT_CHANNELS),
        Knob {
            id: text("allocation"),
            title: text("allocation"),
            summary: text(
                "How ranks are shared out: energy keeps the same share of the squared singular values in every layer, \
                 uniform the same share of the weights.",
            ),
            range: Range::Choice {
                options: std::borrow::Cow::Borrowed(&[text("energy"), text("uniform")]),
                default: text("energy"),
            },
        },
    ],
    build: |setting| {
        Box::new(LowRank {
            ratio: setting.real("ratio"),
            of: RatioOf::of(setting.choice("ratio-of")).unwrap_or(RatioOf::Parameters),
            is_uniform: setting.choice("allocation") == "uniform",
        })
    },
};

/// The greatest ratio.
const MOST: f64 = 0.999;

struct LowRank {
    ratio: f64,
    of: RatioOf,
    /// Whether every layer loses the same share of its weights; of its squared singular values otherwise.
    is_uniform: bool,
}

impl Compression for LowRank {
    fn compress(
        &self,
        start: &Start<'_>,
        _: &mut dyn Observer,
        cx: &mut Context<'_>,
    ) -> Result<Compressed> {
        let network = start.network;
        let before = Sizes::counted(network, self.of)?;
        let mut factors = Vec::new();
        let nodes = network.nodes();
        for (at, node) in nodes.iter().enumerate() {
            factors.push(Factors::of(network, node)?);
            let (done, total) = (at as u64 + 1, nodes.len() as u64);
            cx.progress(done, total, "finding singular values")?;
        }
        let ranks = |strength: f64| -> Vec<Option<usize>> {
            let rank = |of: &Option<Factors>| {
                let of = of.as_ref()?;
                let rank = if self.is_uniform {
                    of.rank_of_weights(strength)
                } else {
                    of.rank_of_energy(strength)
                };
                of.saves(rank).then_some(rank)
            };
            factors.iter().map(rank).collect()
        };
        // Searched for on shapes alone where they decide; what is written depends on the values.
        let at = |strength| {
            let made = factorized(network, &factors, &ranks(strength))?;
            Sizes::counted(&made, self.of)
        };
        let solved = ratio::solve(self.of, self.ratio, MOST, &before, at)?;
        let chosen = ranks(solved.strength);
        let made = factorized(network, &factors, &chosen)?;
        let of_all = factors.iter().flatten().count();
        let split = chosen.iter().flatten().count();
        let mut remarks = vec![format!(
            "{split} of {of_all} layers are computed as two thinner ones in a row; sums of many channels are replaced by \
             two of fewer"
        )];
        let forgets = |has: fn(&crate::nn::parameters::Parameter) -> bool| {
            let split = nodes.iter().zip(&chosen).filter(|(_, rank)| rank.is_some());
            split
                .flat_map(|(node, _)| &node.parameters)
                .any(|place| has(network.parameters().at(*place)))
        };
        if forgets(|parameter| parameter.mask.is_some()) {
            remarks.push("what was pruned in those layers is not zero any more".to_owned());
        }
        if forgets(|parameter| parameter.levels.is_some()) {
            remarks.push("the weights of those layers are floats again".to_owned());
        }
        Ok(Compressed {
            network: made.to_device(&network.device())?,
            best: None,
            asked: Some(self.ratio),
            reached: Some(solved.reached),
            remarks,
            cost: Cost::default(),
            life: start.life,
        })
    }
}

/// The network with these ranks in place of whole layers.
fn factorized(
    network: &Network,
    factors: &[Option<Factors>],
    ranks: &[Option<usize>],
) -> Result<Network> {
    // A layer that was factorized before has a basis of that name already.
    let basis = |node: &Node| {
        let mut names = (1..).map(|n| match n {
            1 => format!("{}.basis", node.name),
            n => format!("{}.basis{n}", node.name),
        });
        let is_free = |name: &String| network.position(name).is_none();
        names.find(is_free).unwrap_or_default()
    };
    let mut made = network.relaid(None, |at, node| {
        let same = (node.name.clone(), node.layer.clone());
        let Some(rank) = ranks[at] else {
            return vec![same];
        };
        let mut thin = node.layer.clone();
        let wide = match &mut thin {
            Layer::Conv2d {
                out_channels, bias, ..
            } => {
                let wide = Layer::Conv2d {
                    out_channels: *out_channels,
                    kernel: 1,
                    stride: 1,
                    padding: 0,
                    bias: *bias,
                };
                (*out_channels, *bias) = (rank, false);
                wide
            }
            Layer::Linear { outputs, bias } => {
                let wide = Layer::Linear {
                    outputs: *outputs,
                    bias: *bias,
                };
                (*outputs, *bias) = (rank, false);
                wide
            }
            _ => return vec![same],
        };
        vec![(basis(node), thin), (node.name.clone(), wide)]
    })?;
    for (node, (factors, rank)) in network.nodes().iter().zip(factors.iter().zip(ranks)) {
        let (Some(factors), Some(rank)) = (factors, rank) else {
            made.take(network, node)?;
            continue;
        };
        let (thin, wide) = factors.of_rank(*rank);
        let parameters = made.parameters_mut();
        parameters.set(&format!("{}.weight", basis(node)), &thin)?;
        for &place in &node.parameters {
            let of = network.parameters().at(place);
            match of.role {
                ParameterRole::Weight => parameters.set(&of.name, &wide)?,
                _ => parameters.set(&of.name, &network.parameters().values(&of.name)?)?,
            }
        }
    }
    Ok(made)
}

/// A matrix by its singular values, the largest first.
struct Factors {
    /// √σ_i u_i, one after the other, each of as many numbers as the matrix has rows.
    left: Vec<Vec<f64>>,
    /// √σ_i v_i, each of as many numbers as it has columns.
    right: Vec<Vec<f64>>,
    /// σ².
    energies: Vec<f64>,
    rows: usize,
    columns: usize,
}

impl Factors {
    /// Those of a convolution's or a linear layer's weight.
    fn of(network: &Network, node: &Node) -> Result<Option<Self>> {
        if !matches!(node.layer, Layer::Conv2d { .. } | Layer::Linear { .. }) {
            return Ok(None);
        }
        let places = node.parameters.iter();
        let weight = places
            .map(|place| network.parameters().at(*place))
            .find(|parameter| parameter.role == ParameterRole::Weight)
            .ok_or_else(|| Error::Internal(format!("{} has no weight", node.name)))?;
        let rows = weight.value.dims()[0];
        let values = network.parameters().values(&weight.name)?;
        Ok(Some(Self::new(rows, &values)))
    }

    /// Of a matrix, row by row.
    fn new(rows: usize, values: &[f32]) -> Self {
        let columns = values.len() / rows;
        let wide = values.iter().map(|value| f64::from(*value));
        let matrix = DMatrix::from_row_iterator(rows, columns, wide);
        let is_tall = rows > columns;
        let gram = if is_tall {
            matrix.tr_mul(&matrix)
        } else {
            &matrix * matrix.transpose()
        };
        let eigen = SymmetricEigen::new(gram);
        let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
        order.sort_by(|&a, &b| {
            let by_size = eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]);
            by_size.then(a.cmp(&b))
        });
        let (mut left, mut right, mut energies) = (Vec::new(), Vec::new(), Vec::new());
        for at in order {
            let energy = eigen.eigenvalues[at].max(0.0);
            let root = energy.powf(0.25);
            // One side is the eigenvector; the matrix takes it to σ times the other.
            let own = eigen.eigenvectors.column(at);
            let other = if is_tall {
                &matrix * own
            } else {
                matrix.tr_mul(&own)
            };
            let own: Vec<f64> = own.iter().map(|value| value * root).collect();
            let scale = if root > 0.0 { 1.0 / root } else { 0.0 };
            let other: Vec<f64> = other.iter().map(|value| value * scale).collect();
            let (of_rows, of_columns) = if is_tall { (other, own) } else { (own, other) };
            left.push(of_rows);
            right.push(of_columns);
            energies.push(energy);
        }
        Self {
            left,
            right,
            energies,
            rows,
            columns,
        }
    }

    /// Whether two layers of that rank have fewer weights than the one.
    fn saves(&self, rank: usize) -> bool {
        rank * (self.rows + self.columns) < self.rows * self.columns
    }

    /// The rank whose layers have at most the share 1 - `strength` of the weights, and 1 at least.
    fn rank_of_weights(&self, strength: f64) -> usize {
        let weights = (self.rows * self.columns) as f64 * (1.0 - strength);
        ((weights / (self.rows + self.columns) as f64) as usize).max(1)
    }

    /// The least rank that keeps the share 1 - `strength` of the squared singular values.
    fn rank_of_energy(&self, strength: f64) -> usize {
        let asked = (1.0 - strength) * self.energies.iter().sum::<f64>();
        let mut kept = 0.0;
        let short = self.energies.iter().take_while(|energy| {
            let is_short = kept < asked;
            kept += **energy;
            is_short
        });
        short.count().max(1)
    }

    /// The thinner layer's weight, `rank` rows, and the wider one's, `rank` columns.
    fn of_rank(&self, rank: usize) -> (Vec<f32>, Vec<f32>) {
        let thin = self.right[..rank].iter().flatten();
        let thin = thin.map(|value| *value as f32).collect();
        let row = |row: usize| {
            self.left[..rank]
                .iter()
                .map(move |column| column[row] as f32)
        };
        (thin, (0..self.rows).flat_map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(factors: &Factors, rank: usize) -> Vec<f64> {
        let (thin, wide) = factors.of_rank(rank);
        let cell = |row: usize, column: usize| -> f64 {
            (0..rank)
                .map(|i| {
                    f64::from(wide[row * rank + i]) * f64::from(thin[i * factors.columns + column])
                })
                .sum()
        };
        (0..factors.rows)
            .flat_map(|row| (0..factors.columns).map(move |column| (row, column)))
            .map(|(row, column)| cell(row, column))
            .collect()
    }

    /// NumPy 2.4.6, `linalg.svd` in 64 bits of ((3, 1, 1, 0), (-1, 3, 1, 2), (0, 2, -1, 1)) and of its transpose.
    #[test]
    fn singular_values_and_the_nearest_matrix_are_numpys() {
        let wide: [f32; 12] = [3., 1., 1., 0., -1., 3., 1., 2., 0., 2., -1., 1.];
        let tall: [f32; 12] = [3., -1., 0., 1., 3., 2., 1., 1., -1., 0., 2., 1.];
        for (rows, values) in [(3, wide), (4, tall)] {
            let factors = Factors::new(rows, &values);
            let expected = [
                4.364_702_308_257_837,
                3.284_695_758_065_279,
                1.469_744_038_000_039_5,
            ];
            for (energy, expected) in factors.energies.iter().zip(expected) {
                let found = energy.sqrt();
                assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
            }
            // Eckart and Young: what is lost is what the others hold.
            for rank in 1..=3 {
                let squares = product(&factors, rank)
                    .iter()
                    .zip(&values)
                    .map(|(a, b)| (a - f64::from(*b)).powi(2))
                    .sum::<f64>();
                let lost: f64 = expected[rank..].iter().map(|s| s * s).sum();
                assert!(
                    (squares - lost).abs() < 1e-5,
                    "{rank}: {squares} is not {lost}"
                );
            }
        }
    }

    #[test]
    fn ranks_follow_weights_or_energy() {
        let mut values = vec![0.0; 16 * 16];
        for i in 0..16 {
            values[17 * i] = (16 - i) as f32;
        }
        let factors = Factors::new(16, &values);
        // 256 weights, 32 for each rank; 8 ranks save nothing.
        assert_eq!(factors.rank_of_weights(0.5), 4);
        assert_eq!(factors.rank_of_weights(0.999), 1);
        assert!(factors.saves(7) && !factors.saves(8));
        // Squares 256, 225, 196, ... of 1496.
        assert_eq!(factors.rank_of_energy(0.5), 4);
        assert_eq!(factors.rank_of_energy(0.0), 16);
        assert_eq!(factors.rank_of_energy(0.999), 1);
    }
}
