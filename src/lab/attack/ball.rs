//! Balls round images: distances, starting points, steps and projections in the maximum norm and in the Euclidean one.
//!
//! L-infinity: max |δ|. L2: sqrt(Σ δ²) over all values of an image. What is projected is clamped to [0, 1] last; that
//! brings a value nearer to its image, which lies in the range, and so never leads out of the ball.

use crate::nn::rng::Rng;

/// By what the size of a change is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    Linf,
    L2,
}

impl Norm {
    /// The norm of a knob's word.
    pub fn of(word: &str) -> Self {
        if word == "l2" { Self::L2 } else { Self::Linf }
    }

    /// The size of a change, in double precision.
    pub fn size(self, change: &[f32]) -> f64 {
        let each = change.iter().map(|d| f64::from(*d));
        self.over(each)
    }

    /// How far apart two images are, in double precision; not a number where a pixel is none.
    pub fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        let each = a.iter().zip(b).map(|(a, b)| f64::from(*b) - f64::from(*a));
        self.over(each)
    }

    fn over(self, each: impl Iterator<Item = f64>) -> f64 {
        match self {
            Self::Linf => each.fold(
                0.0,
                |most: f64, d| {
                    if d.is_nan() { d } else { most.max(d.abs()) }
                },
            ),
            Self::L2 => each.map(|d| d * d).sum::<f64>().sqrt(),
        }
    }

    /// A step of length `step` from `x` along `gradient`, back into the ball round `clean` and the range; no gradient
    /// moves nothing.
    pub fn step(
        self,
        clean: &[f32],
        x: &[f32],
        gradient: &[f32],
        step: f64,
        epsilon: f64,
    ) -> Vec<f32> {
        let mut moved = self.moved(x, gradient, step);
        self.project(clean, &mut moved, epsilon);
        moved
    }

    /// The same before anything is projected: x + step sign(g), or x + step g / ‖g‖.
    pub fn moved(self, x: &[f32], gradient: &[f32], step: f64) -> Vec<f32> {
        match self {
            Self::Linf => {
                let step = step as f32;
                let along = |(x, g): (&f32, &f32)| {
                    let sign = f32::from(u8::from(*g > 0.0)) - f32::from(u8::from(*g < 0.0));
                    x + step * sign
                };
                x.iter().zip(gradient).map(along).collect()
            }
            Self::L2 => {
                let size = self.size(gradient);
                if size > 0.0 && size.is_finite() {
                    let scale = step / size;
                    let along =
                        |(x, g): (&f32, &f32)| (f64::from(*x) + scale * f64::from(*g)) as f32;
                    x.iter().zip(gradient).map(along).collect()
                } else {
                    x.to_vec()
                }
            }
        }
    }

    /// Back into the ball round `clean`, and into [0, 1].
    pub fn project(self, clean: &[f32], x: &mut [f32], epsilon: f64) {
        self.pull(clean, x, epsilon);
        for x in x.iter_mut() {
            *x = x.clamp(0.0, 1.0);
        }
    }

    /// Back into the ball alone.
    pub fn pull(self, clean: &[f32], x: &mut [f32], epsilon: f64) {
        match self {
            Self::Linf => {
                let radius = epsilon as f32;
                for (x, o) in x.iter_mut().zip(clean) {
                    *x = x.clamp(o - radius, o + radius);
                }
            }
            Self::L2 => {
                let size = self.distance(clean, x);
                if size > epsilon {
                    let scale = epsilon / size;
                    for (x, o) in x.iter_mut().zip(clean) {
                        let own = f64::from(*o);
                        *x = (own + scale * (f64::from(*x) - own)) as f32;
                    }
                }
            }
        }
    }

    /// A point of the ball: uniform in the cube; in the Euclidean ball a random direction times a uniform share of the
    /// radius, as torchattacks draws it.
    pub fn within(self, clean: &[f32], epsilon: f64, rng: &mut Rng) -> Vec<f32> {
        let mut x: Vec<f32> = match self {
            Self::Linf => {
                let mut draw = || rng.between(-epsilon, epsilon) as f32;
                clean.iter().map(|o| o + draw()).collect()
            }
            Self::L2 => {
                let direction: Vec<f32> = clean.iter().map(|_| rng.normal() as f32).collect();
                let length = epsilon * rng.uniform();
                self.moved(clean, &direction, length)
            }
        };
        self.project(clean, &mut x, epsilon);
        x
    }

    /// A point on the ball's surface, before the pixels' range takes it back: x + ε t / ‖t‖, t uniform in the cube or
    /// normal (Croce and Hein's start).
    pub fn on_surface(self, clean: &[f32], epsilon: f64, rng: &mut Rng) -> Vec<f32> {
        let mut draw = || match self {
            Self::Linf => rng.between(-1.0, 1.0) as f32,
            Self::L2 => rng.normal() as f32,
        };
        let direction: Vec<f32> = clean.iter().map(|_| draw()).collect();
        let scale = epsilon / self.size(&direction).max(f64::MIN_POSITIVE);
        let along = |(o, t): (&f32, &f32)| (f64::from(*o) + scale * f64::from(*t)) as f32;
        let mut x: Vec<f32> = clean.iter().zip(&direction).map(along).collect();
        self.project(clean, &mut x, epsilon);
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Definitions O-17.
    #[test]
    fn a_euclidean_step_is_projected_on_the_ball() {
        let x = [0.5, 0.5];
        let moved = Norm::L2.step(&x, &x, &[3.0, -4.0], 0.2, 0.1);
        assert!(
            (moved[0] - 0.56).abs() < 1e-6 && (moved[1] - 0.42).abs() < 1e-6,
            "{moved:?}"
        );
    }

    #[test]
    fn no_gradient_moves_nothing() {
        for norm in [Norm::Linf, Norm::L2] {
            assert_eq!(norm.step(&[0.5], &[0.5], &[0.0], 0.2, 0.1), [0.5]);
            assert_eq!(
                norm.step(&[0.5; 2], &[0.5; 2], &[f32::NAN; 2], 0.2, 0.1),
                [0.5; 2]
            );
        }
    }

    #[test]
    fn starting_points_lie_in_the_ball_and_in_the_range() {
        let clean: Vec<f32> = (0..64).map(|at| at as f32 / 63.0).collect();
        let mut rng = Rng::stream(1, "test", &[]);
        for norm in [Norm::Linf, Norm::L2] {
            for draw in [Norm::within, Norm::on_surface] {
                let x = draw(norm, &clean, 0.3, &mut rng);
                assert!(norm.distance(&clean, &x) <= 0.3 + 1e-6);
                assert!(x.iter().all(|x| (0.0..=1.0).contains(x)));
                assert_ne!(x, clean);
            }
        }
    }
}
