//! Batch normalization: the definition in 64 bits, its central differences, and PyTorch.

use proptest::prelude::*;
use shrinklab::nn::op::batch_norm2d::{
    Affine, Flow, Relu, Saved, Wanted, backward_eval, backward_train, commit, fold, forward_eval,
    forward_train, statistics,
};

use crate::{assert_close, draw, threads};

const EPSILON: f64 = 1e-5;

/// A batch and what is learnt, in 64 bits: x, residual, γ, β.
#[derive(Clone)]
struct Case {
    channels: usize,
    relu: bool,
    /// x, γ, β, and the residual where there is one.
    values: Vec<Vec<f64>>,
    dy: Vec<f32>,
}

impl Case {
    fn new(stream: u64, count: usize, channels: usize, residual: bool, relu: bool) -> Self {
        let n = count * channels;
        let mut values = vec![
            draw(stream, n, -2.0, 3.0),
            draw(stream + 1, channels, -1.5, 1.5),
            draw(stream + 2, channels, -1.0, 1.0),
        ];
        if residual {
            values.push(draw(stream + 3, n, -1.0, 1.0));
        }
        Self {
            channels,
            relu,
            values: values.iter().map(|v| wide(v)).collect(),
            dy: draw(stream + 4, n, -1.0, 1.0),
        }
    }

    /// y by the definition; with the given mean and variance, or the batch's own.
    fn by_definition(&self, running: Option<&[Vec<f64>; 2]>) -> Vec<f64> {
        let [x, weight, bias, residual @ ..] = &self.values[..] else {
            unreachable!()
        };
        let (channels, count) = (self.channels, x.len() / self.channels);
        let mut y = vec![0.0; x.len()];
        for c in 0..channels {
            let column = || x.iter().skip(c).step_by(channels);
            let own_mean = column().sum::<f64>() / count as f64;
            let squares = column().map(|x| (x - own_mean).powi(2));
            let own_variance = squares.sum::<f64>() / count as f64;
            let (mean, variance) = running.map_or((own_mean, own_variance), |r| (r[0][c], r[1][c]));
            for row in 0..count {
                let at = row * channels + c;
                let normal = (x[at] - mean) / (variance + EPSILON).sqrt();
                y[at] = weight[c] * normal + bias[c];
                y[at] += residual.first().map_or(0.0, |r| r[at]);
                if self.relu {
                    y[at] = y[at].max(0.0);
                }
            }
        }
        y
    }

    /// The central difference of <y, dy> in one of the values.
    fn difference(&self, running: Option<&[Vec<f64>; 2]>, which: usize, at: usize) -> f64 {
        const STEP: f64 = 1e-5;
        let value = |step: f64| {
            let mut moved = self.clone();
            moved.values[which][at] += step;
            let y = moved.by_definition(running);
            y.iter()
                .zip(&self.dy)
                .map(|(y, dy)| y * f64::from(*dy))
                .sum::<f64>()
        };
        (value(STEP) - value(-STEP)) / (2.0 * STEP)
    }

    fn differences(&self, running: Option<&[Vec<f64>; 2]>) -> Vec<Vec<f64>> {
        let of = |which: usize| {
            let n = self.values[which].len();
            (0..n)
                .map(|at| self.difference(running, which, at))
                .collect()
        };
        (0..self.values.len()).map(of).collect()
    }

    /// The op's y, dx, dγ, dβ and dr, by every way there is to compute them.
    fn run(&self, running: Option<&[Vec<f64>; 2]>) -> Vec<Vec<f32>> {
        let values: Vec<Vec<f32>> = self.values.iter().map(|v| narrow(v)).collect();
        let (x, residual) = (&values[0], values.get(3));
        let affine = Affine {
            weight: &values[1],
            bias: &values[2],
            epsilon: EPSILON,
        };
        let nan = || vec![f32::NAN; x.len()];
        let mut y = nan();
        let running = running.map(|[mean, variance]| [narrow(mean), narrow(variance)]);
        let line = running.as_ref().map(|[m, v]| fold(&affine, m, v));
        let own = if let Some((scale, shift)) = &line {
            forward_eval(scale, shift, x, residual.map(|r| &r[..]), self.relu, &mut y);
            None
        } else {
            let residual = residual.map(|r| &r[..]);
            Some(forward_train(&affine, x, residual, self.relu, &mut y))
        };
        let backward = |relu: Relu<'_>, flow: Flow<'_>, wanted: Wanted<'_>| {
            let saved = Saved { x, relu };
            match (&own, &running, &line) {
                (Some(own), ..) => backward_train(&affine, own, saved, flow, wanted),
                (_, Some([mean, variance]), Some((scale, shift))) => {
                    let running = Some((&mean[..], &variance[..], EPSILON));
                    backward_eval((scale, shift), running, saved, flow, wanted);
                }
                _ => unreachable!(),
            }
        };
        let relu = if self.relu {
            Relu::FromOutput(&y)
        } else {
            Relu::Absent
        };
        let (mut dx, mut dr) = (nan(), nan());
        let (mut dw, mut db) = (vec![f32::NAN; self.channels], vec![f32::NAN; self.channels]);
        let flow = Flow::Apart {
            dy: &self.dy,
            dx: Some(&mut dx),
        };
        let wanted = Wanted {
            weight: Some(&mut dw),
            bias: Some(&mut db),
            residual: residual.is_some().then_some(&mut dr[..]),
        };
        backward(relu, flow, wanted);
        // In place, and from x alone: the same bits.
        let mut alone = self.dy.clone();
        backward(relu, Flow::InPlace(&mut alone), Wanted::default());
        assert_eq!(alone, dx);
        if residual.is_none() && self.relu {
            let mut again = nan();
            let flow = Flow::Apart {
                dy: &self.dy,
                dx: Some(&mut again),
            };
            backward(Relu::FromInput, flow, Wanted::default());
            assert_eq!(again, dx);
        }
        if residual.is_some() {
            let (mut alone, mut dr_alone) = (self.dy.clone(), nan());
            let wanted = Wanted {
                residual: Some(&mut dr_alone),
                ..Wanted::default()
            };
            backward(relu, Flow::InPlace(&mut alone), wanted);
            assert_eq!((alone, &dr_alone), (dx.clone(), &dr));
        }
        let mut all = vec![y.clone(), dx, dw, db];
        if residual.is_some() {
            all.push(dr);
        }
        all
    }

    fn check(&self, running: Option<&[Vec<f64>; 2]>) {
        let y = self.by_definition(running);
        // A difference across the edge of a ReLU is no derivative.
        let before = Self {
            relu: false,
            ..self.clone()
        };
        let before = before.by_definition(running);
        if self.relu && before.iter().any(|y| y.abs() < 1e-3) {
            return;
        }
        let differences = self.differences(running);
        for n in [1, 2] {
            let found = threads(n, || self.run(running));
            assert_close(&found[0], &y, 3e-6, "y");
            for (which, expected) in differences.iter().enumerate() {
                let what = ["dx", "dweight", "dbias", "dresidual"][which];
                // The difference itself is off by some 1e-9, times what a small variance blows it up to.
                assert_close(&found[which + 1], expected, 1e-5, what);
            }
        }
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

proptest! {
    #![proptest_config(crate::drawn(40))]

    /// From 4 values per channel on: with fewer, the variance may be so small that x decides nothing but its sign.
    #[test]
    fn values_and_gradients_are_those_of_the_definition(
        stream in 0_u64..1 << 20, count in 4_usize..30, channels in 1_usize..12, residual: bool, relu: bool,
    ) {
        let case = Case::new(stream * 8, count, channels, residual, relu);
        case.check(None);
        let running = [
            wide(&draw(stream * 8 + 5, channels, -1.0, 1.0)),
            wide(&draw(stream * 8 + 6, channels, 0.1, 4.0)),
        ];
        case.check(Some(&running));
    }

    /// More rows than are summed in 32 bits, tiles repeated and cut, parts of both threads.
    #[test]
    fn large_batches_are_divided_without_a_seam(
        stream in 0_u64..1 << 20, count in 300_usize..3000, channels in 1_usize..70, offset in -1e4..1e4_f64,
    ) {
        let x: Vec<f32> = draw(stream, count * channels, 0.0, 1.0).iter().map(|x| x + offset as f32).collect();
        for n in [1, 2, 3] {
            let found = threads(n, || statistics(&x, channels));
            prop_assert_eq!(found.count, count);
            for c in 0..channels {
                let column = || x.iter().skip(c).step_by(channels).map(|x| f64::from(*x));
                let mean = column().sum::<f64>() / count as f64;
                let variance = column().map(|x| (x - mean).powi(2)).sum::<f64>() / count as f64;
                prop_assert!((found.mean[c] - mean).abs() < 1e-6, "{} instead of {mean}", found.mean[c]);
                let error = (found.variance[c] - variance).abs() / variance;
                prop_assert!(error < 1e-5, "{} instead of {variance}", found.variance[c]);
            }
        }
        let (weight, bias) = (vec![1.0; channels], vec![0.0; channels]);
        let affine = Affine { weight: &weight, bias: &bias, epsilon: EPSILON };
        let dy = draw(stream + 1, x.len(), -1.0, 1.0);
        let run = || {
            let mut y = vec![f32::NAN; x.len()];
            let own = forward_train(&affine, &x, None, true, &mut y);
            let (mut dx, mut dw) = (vec![f32::NAN; x.len()], vec![f32::NAN; channels]);
            let flow = Flow::Apart { dy: &dy, dx: Some(&mut dx) };
            let wanted = Wanted { weight: Some(&mut dw), ..Wanted::default() };
            backward_train(&affine, &own, Saved { x: &x, relu: Relu::FromInput }, flow, wanted);
            (y, dx, dw)
        };
        let (one, two) = (threads(1, run), threads(2, run));
        let close = |found: &[f32], expected: &[f32], what| assert_close(found, &wide(expected), 1e-5, what);
        close(&two.0, &one.0, "y");
        close(&two.1, &one.1, "dx");
        close(&two.2, &one.2, "dweight");
        // What the statistics take away: dx is orthogonal to 1 and to x̂ where γ = 1.
        for c in 0..channels {
            let column = |values: &[f32]| wide(values).into_iter().skip(c).step_by(channels).collect::<Vec<_>>();
            let (x, dx) = (column(&x), column(&two.1));
            let mean = x.iter().sum::<f64>() / count as f64;
            let along_x: f64 = x.iter().zip(&dx).map(|(x, d)| (x - mean) * d).sum();
            prop_assert!(dx.iter().sum::<f64>().abs() < 1e-3, "{}", dx.iter().sum::<f64>());
            // But for what ε leaves: (1 - σ² / (σ² + ε)) dγ.
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count as f64;
            let left = f64::from(two.2[c]) * EPSILON / (variance + EPSILON);
            prop_assert!((along_x - left).abs() < 1e-2, "{along_x} instead of {left}");
        }
        prop_assert_eq!(threads(2, run), two);
    }
}

/// PyTorch 2.15, `BatchNorm2d(2)` in training with weight (0.5, -2), bias (0.1, 0.2) on x = [[[[1, 2], [3, 5]],
/// [[-1, 0], [4, 4]]]], then backward of y · [1, -1, 2, 0.5] in both channels.
#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let x = [1.0, -1.0, 2.0, 0.0, 3.0, 4.0, 5.0, 4.0];
    let dy = [1.0, 1.0, -1.0, -1.0, 2.0, 2.0, 0.5, 0.5];
    let affine = Affine {
        weight: &[0.5, -2.0],
        bias: &[0.1, 0.2],
        epsilon: EPSILON,
    };
    let (mut y, mut dx) = ([0.0; 8], [0.0; 8]);
    let (mut dw, mut db) = ([0.0; 2], [0.0; 2]);
    let own = forward_train(&affine, &x, None, false, &mut y);
    let flow = Flow::Apart {
        dy: &dy,
        dx: Some(&mut dx),
    };
    let wanted = Wanted {
        weight: Some(&mut dw),
        bias: Some(&mut db),
        residual: None,
    };
    let saved = Saved {
        x: &x,
        relu: Relu::Absent,
    };
    backward_train(&affine, &own, saved, flow, wanted);
    let (mut mean, mut variance) = ([0.0; 2], [1.0; 2]);
    commit(&mut mean, &mut variance, &own, 0.1);
    assert_close(
        &y,
        &[
            -0.491_606_626,
            2.614_811_392,
            -0.153_545_697,
            1.736_698_159,
            0.184_515_232,
            -1.775_754_775,
            0.860_637_091,
            -1.775_754_775,
        ],
        1e-6,
        "y",
    );
    assert_close(
        &dx,
        &[
            0.169_030_271,
            -0.867_532_518,
            -0.531_238_686,
            1.084_417_605,
            0.458_797_003,
            -0.767_027_469,
            -0.096_588_589,
            0.550_142_382,
        ],
        1e-6,
        "dx",
    );
    assert_close(&dw, &[0.422_576_161, 2.030_636_853], 1e-6, "dweight");
    assert_close(&db, &[2.5, 2.5], 1e-6, "dbias");
    assert_close(&mean, &[0.275, 0.175], 1e-6, "running mean");
    assert_close(
        &variance,
        &[1.191_666_667, 1.591_666_667],
        1e-6,
        "running variance",
    );
}
