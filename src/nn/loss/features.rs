//! Losses between the feature maps of a student and of its teacher, channels last: (B, H, W, C).
//!
//! Attention transfer (Zagoruyko and Komodakis 2017, arXiv:1612.03928): Q = vec(Σ_c |A_c|²), (H·W), and per map
//! L = ½ ‖Q_s/‖Q_s‖₂ - Q_t/‖Q_t‖₂‖₂ / (H·W), mean over the batch; the publication's strength is β = 10³ "divided by the
//! number of elements in attention map and batch size", of which the division is done here.
//! FitNets (Romero et al. 2015, arXiv:1412.6550): L = ½ (r(F_s) - F_t)², r a 1x1 convolution from the student's channels
//! to the teacher's. Deviation: the mean over all values and not their sum, so that its strength does not hang on the
//! map's size.
//! Maps of two sizes are made one by the means over the windows of PyTorch's `adaptive_avg_pool2d`.

use candle_core::Tensor;

use crate::nn::op::gemm::{Into, Matrix, multiply};
use crate::nn::op::{self, tensor};
use crate::nn::{Result, invalid};

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod matcher;

pub use matcher::{Matched, Matcher};

/// A loss and its gradient with respect to the student's map.
#[derive(Debug)]
pub struct OfMap {
    pub mean: f64,
    pub d_student: Tensor,
}

/// B, H, W, C of a map.
fn sizes(map: &Tensor) -> Result<[usize; 4]> {
    map.dims4()
        .map(|(b, h, w, c)| [b, h, w, c])
        .map_err(|_| invalid(format!("{:?} is no batch of feature maps", map.dims())))
}

/// Those of a student's and a teacher's, who saw the same images.
fn sizes_of_pair(student: &Tensor, teacher: &Tensor) -> Result<([usize; 4], [usize; 4])> {
    let (student, teacher) = (sizes(student)?, sizes(teacher)?);
    if student[0] != teacher[0] {
        return Err(invalid("student and teacher saw batches of two sizes"));
    }
    Ok((student, teacher))
}

/// Σ_c A², (B, H·W) in 64 bits.
fn attention(values: &[f32], channels: usize) -> Vec<f64> {
    let squares = |place: &[f32]| place.iter().map(|a| f64::from(*a).powi(2)).sum();
    values.chunks_exact(channels).map(squares).collect()
}

/// A row over its own length; a row of zeros stays one.
fn unit(row: &[f64]) -> (Vec<f64>, f64) {
    let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    (row.iter().map(|v| v * scale).collect(), scale)
}

/// Attention transfer's loss of a pair of maps.
pub fn attention_transfer(student: &Tensor, teacher: &Tensor) -> Result<OfMap> {
    let ([b, h, w, c], [_, th, tw, tc]) = sizes_of_pair(student, teacher)?;
    let values = op::values(student)?;
    let of_student = attention(&values, c);
    let of_teacher = attention(&op::values(teacher)?, tc);
    let of_teacher = resized(&of_teacher, [b, th, tw, 1], [h, w]);
    let places = h * w;
    let mut found = 0.0;
    let mut gradient = vec![0.0; values.len()];
    let rows = of_student
        .chunks_exact(places)
        .zip(of_teacher.chunks_exact(places));
    let images = values
        .chunks_exact(places * c)
        .zip(gradient.chunks_exact_mut(places * c));
    let share = 0.5 / (places * b) as f64;
    for ((student, teacher), (values, gradient)) in rows.zip(images) {
        let ((s, scale), (t, _)) = (unit(student), unit(teacher));
        let apart: Vec<f64> = s.iter().zip(&t).map(|(s, t)| s - t).collect();
        let distance = apart.iter().map(|v| v * v).sum::<f64>().sqrt();
        found += share * distance;
        if distance == 0.0 {
            continue;
        }
        // d‖ŝ - t‖ / dQ = (u - ŝ (ŝ·u)) / ‖Q‖ with u the unit vector of the difference; dQ / dA = 2 A.
        let along: f64 = s.iter().zip(&apart).map(|(s, u)| s * u / distance).sum();
        for (place, (values, gradient)) in values
            .chunks_exact(c)
            .zip(gradient.chunks_exact_mut(c))
            .enumerate()
        {
            let d_q = share * (apart[place] / distance - s[place] * along) * scale;
            for (g, a) in gradient.iter_mut().zip(values) {
                *g = (2.0 * d_q * f64::from(*a)) as f32;
            }
        }
    }
    Ok(OfMap {
        mean: found,
        d_student: tensor(gradient, student.dims())?,
    })
}

/// FitNets' regressor with its gradients.
#[derive(Debug)]
pub struct Regressor {
    /// (C_t, C_s).
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub d_weight: Vec<f32>,
    pub d_bias: Vec<f32>,
}

impl Regressor {
    /// From the student's channels to the teacher's.
    pub fn new(weight: Vec<f32>, teachers: usize) -> Self {
        Self {
            d_weight: vec![0.0; weight.len()],
            weight,
            bias: vec![0.0; teachers],
            d_bias: vec![0.0; teachers],
        }
    }

    /// FitNets' loss of a pair of maps, times `strength`; adds to the regressor's gradients.
    pub fn hint(&mut self, student: &Tensor, teacher: &Tensor, strength: f64) -> Result<OfMap> {
        let ([b, h, w, c], [_, th, tw, tc]) = sizes_of_pair(student, teacher)?;
        if self.weight.len() != c * tc || self.bias.len() != tc {
            return Err(invalid(format!(
                "a regressor from {c} to {tc} channels is needed, and this one has {} weights",
                self.weight.len()
            )));
        }
        let wide: Vec<f64> = op::values(teacher)?.into_iter().map(f64::from).collect();
        let target = resized(&wide, [b, th, tw, tc], [h, w]);
        let x = op::values(student)?;
        let rows = b * h * w;
        let mut y = vec![0.0; rows * tc];
        let weight = Matrix::transposed(&self.weight, c);
        multiply(
            (rows, tc, c),
            &mut y,
            tc,
            Into::Replace,
            Matrix::rows(&x, c),
            weight,
        );
        let share = strength / y.len() as f64;
        let mut mean = 0.0;
        for (y, target) in y.chunks_exact_mut(tc).zip(target.chunks_exact(tc)) {
            for (at, (y, target)) in y.iter_mut().zip(target).enumerate() {
                let apart = f64::from(*y) + f64::from(self.bias[at]) - target;
                mean += 0.5 * share * apart * apart;
                // From here on the gradient of the loss with respect to r(F_s).
                *y = (share * apart) as f32;
                self.d_bias[at] += *y;
            }
        }
        let (dy, x) = (Matrix::transposed(&y, tc), Matrix::rows(&x, c));
        multiply((tc, c, rows), &mut self.d_weight, c, Into::Add, dy, x);
        let mut dx = vec![0.0; rows * c];
        let (dy, weight) = (Matrix::rows(&y, tc), Matrix::rows(&self.weight, c));
        multiply((rows, c, tc), &mut dx, c, Into::Replace, dy, weight);
        Ok(OfMap {
            mean,
            d_student: tensor(dx, student.dims())?,
        })
    }
}

/// Maps (B, H, W, C) at another size: the mean of the window from floor(i H / H') to ceil((i + 1) H / H').
pub fn resized(map: &[f64], [b, h, w, c]: [usize; 4], [height, width]: [usize; 2]) -> Vec<f64> {
    if [h, w] == [height, width] {
        return map.to_vec();
    }
    let window = |at: usize, from: usize, to: usize| at * from / to..((at + 1) * from).div_ceil(to);
    let mut resized = Vec::with_capacity(b * height * width * c);
    for image in 0..b {
        for i in 0..height {
            for j in 0..width {
                let (rows, columns) = (window(i, h, height), window(j, w, width));
                let n = (rows.len() * columns.len()) as f64;
                for channel in 0..c {
                    let row = |y: usize| -> f64 {
                        let at = |x: usize| map[((image * h + y) * w + x) * c + channel];
                        columns.clone().map(at).sum()
                    };
                    resized.push(rows.clone().map(row).sum::<f64>() / n);
                }
            }
        }
    }
    resized
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Definitions O-11: Q over its length does not change when all activations are multiplied.
    #[test]
    fn attention_does_not_see_scale() {
        let map = |scale: f32| {
            let values = (0..12).map(|at| scale * ((at * 7 % 5) as f32 - 1.5));
            tensor(values.collect(), &[1, 2, 3, 2]).unwrap()
        };
        let loss = attention_transfer(&map(3.0), &map(0.5)).unwrap();
        assert!(loss.mean < 1e-8, "{}", loss.mean);
    }

    #[test]
    fn windows_cover_a_map_and_repeat_it_where_it_is_smaller() {
        let map = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        assert_eq!(resized(&map, [1, 3, 3, 1], [1, 1]), [5.0]);
        assert_eq!(resized(&map, [1, 3, 3, 1], [2, 2]), [3.0, 4.0, 6.0, 7.0]);
        assert_eq!(
            resized(&[1.0, 2.0], [1, 1, 2, 1], [1, 4]),
            [1.0, 1.0, 2.0, 2.0]
        );
    }
}
