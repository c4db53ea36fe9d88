//! The nearest point of a flat boundary: what DeepFool and FAB step to.
//!
//! A class k's boundary with the label's class, linear round x: f_k + w_k · (z - x) = 0 with f_k = logit_k - logit_y < 0.
//! Without the pixels' range its Euclidean distance is |f_k| / ‖w_k‖ and the step |f_k| w_k / ‖w_k‖²; in the maximum norm
//! the distance is |f_k| / ‖w_k‖₁ (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599).
//! With the range each value moves by min(t |w_i|^(0 or 1), its room), t such that the boundary is met, found exactly by
//! sorting where values reach the range's end (Croce and Hein 2020, arXiv:1907.02044, section 3.1).

use super::ball::Norm;

/// A boundary with another class, linear round a point.
#[derive(Clone, Copy, Debug)]
pub struct Boundary<'a> {
    /// The other class's logit minus the label's.
    pub gap: f64,
    /// Its gradient.
    pub normal: &'a [f32],
}

/// Keeps a quotient finite where a gradient vanishes.
const TINY: f64 = 1e-12;

impl Boundary<'_> {
    /// How far away it is without regard to the pixels' range.
    pub fn distance(&self, norm: Norm) -> f64 {
        let size = match norm {
            Norm::Linf => self.normal.iter().map(|w| f64::from(w.abs())).sum(),
            Norm::L2 => norm.size(self.normal),
        };
        self.gap.abs() / (size + TINY)
    }

    /// The Euclidean step to it, `extra` longer.
    pub fn step(&self, extra: f64) -> Vec<f32> {
        let size = Norm::L2.size(self.normal);
        let length = (self.distance(Norm::L2) + extra) / (size + TINY);
        self.normal
            .iter()
            .map(|w| (length * f64::from(*w)) as f32)
            .collect()
    }

    /// The shortest way from `x` to the plane that leaves no pixel outside [0, 1]; as far as the range lets it where the
    /// plane lies outside. `offset` is w · (x - the point round which the boundary is linear).
    pub fn projected(&self, x: &[f32], offset: f64, norm: Norm) -> Vec<f32> {
        let lack = -(self.gap + offset);
        let sign = if lack < 0.0 { -1.0 } else { 1.0 };
        // Each value's speed, the reach of its room in units of t, and what it gains until then.
        let mut reaches: Vec<(f64, f64)> = Vec::with_capacity(x.len());
        for (w, x) in self.normal.iter().zip(x) {
            let (w, x) = (f64::from(*w), f64::from(*x));
            if w == 0.0 {
                continue;
            }
            let room = if w * sign > 0.0 { 1.0 - x } else { x };
            let speed = speed(w, norm);
            reaches.push((room.max(0.0) / speed, speed * w.abs()));
        }
        reaches.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut rate: f64 = reaches.iter().map(|(_, rate)| rate).sum();
        let (mut t, mut gained) = (0.0, 0.0);
        let goal = lack.abs();
        let mut met = false;
        for (reach, own) in &reaches {
            let next = gained + rate * (reach - t);
            if next >= goal && rate > 0.0 {
                t += (goal - gained) / rate;
                met = true;
                break;
            }
            gained = next;
            t = *reach;
            rate -= own;
        }
        if !met {
            t = f64::INFINITY;
        }
        let move_of = |(w, x): (&f32, &f32)| {
            let (w, x) = (f64::from(*w), f64::from(*x));
            if w == 0.0 {
                return 0.0;
            }
            let direction = sign * w.signum();
            let room = if direction > 0.0 { 1.0 - x } else { x };
            (direction * (t * speed(w, norm)).min(room.max(0.0))) as f32
        };
        self.normal.iter().zip(x).map(move_of).collect()
    }
}

fn speed(w: f64, norm: Norm) -> f64 {
    match norm {
        Norm::Linf => 1.0,
        Norm::L2 => w.abs(),
    }
}

/// The place of the nearest of some boundaries, the first of equals.
pub fn nearest(boundaries: &[Boundary<'_>], norm: Norm) -> usize {
    let mut best = (0, f64::INFINITY);
    for (at, boundary) in boundaries.iter().enumerate() {
        let distance = boundary.distance(norm);
        if distance < best.1 {
            best = (at, distance);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Definitions O-13: a linear model with rows (1,0), (0,1), (-1,-1) at (2, 1), label 0.
    #[test]
    fn the_nearest_boundary_of_a_linear_model_is_met_exactly() {
        let boundaries = [
            Boundary {
                gap: -1.0,
                normal: &[-1.0, 1.0],
            },
            Boundary {
                gap: -5.0,
                normal: &[-2.0, -1.0],
            },
        ];
        let half = std::f64::consts::FRAC_1_SQRT_2;
        assert!((boundaries[0].distance(Norm::L2) - half).abs() < 1e-6);
        assert!((boundaries[1].distance(Norm::L2) - 2.236_068_0).abs() < 1e-6);
        let at = nearest(&boundaries, Norm::L2);
        let step = boundaries[at].step(0.0);
        assert!((step[0] + 0.5).abs() < 1e-6 && (step[1] - 0.5).abs() < 1e-6);
        let beyond = [2.0 + 1.02 * step[0], 1.0 + 1.02 * step[1]];
        assert!((beyond[0] - 1.49).abs() < 1e-6 && (beyond[1] - 1.51).abs() < 1e-6);
    }

    /// SciPy 1.17.1, `minimize(method="SLSQP")` and `linprog`, of the same two problems: one value reaches the end of its
    /// range, and the others make up for it.
    #[test]
    fn a_projection_keeps_the_range_and_meets_the_plane() {
        let normal = [1.0_f32, -2.0, 0.5, 0.0];
        let x = [0.9_f32, 0.5, 0.2, 0.7];
        let boundary = Boundary {
            gap: -1.0,
            normal: &normal,
        };
        for (norm, expected) in [
            (Norm::Linf, [0.1, -0.36, 0.36, 0.0]),
            (Norm::L2, [0.1, -0.423_529_4, 0.105_882_35, 0.0]),
        ] {
            let step = boundary.projected(&x, 0.0, norm);
            for (found, expected) in step.iter().zip(expected) {
                assert!((found - expected as f32).abs() < 1e-5, "{norm:?} {step:?}");
            }
            let gained: f32 = step.iter().zip(&normal).map(|(d, w)| d * w).sum();
            assert!((gained - 1.0).abs() < 1e-5);
        }
        // Out of reach: as far as the range goes.
        let far = Boundary {
            gap: -9.0,
            normal: &normal,
        };
        let step = far.projected(&x, 0.0, Norm::Linf);
        let ends = [0.1, -0.5, 0.8, 0.0];
        assert!(
            step.iter().zip(ends).all(|(a, b)| (a - b).abs() < 1e-6),
            "{step:?}"
        );
    }
}
