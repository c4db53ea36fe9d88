//! A step along the signs of a gradient, back into a ball round the images and into the pixels' range.
//!
//! y = clamp(clamp(x + step · sign(g), o - radius, o + radius), 0, 1) with o the images before any step; sign(0) = 0.
//! Madry et al. 2018, arXiv:1706.06083; with x = o it is one step of FGSM (Goodfellow et al. 2015, arXiv:1412.6572).

use candle_core::Tensor;
use rayon::prelude::*;

use super::{read, write};
use crate::nn::Result;

/// Values that one thread takes at a time: a sixteenth of its level-1 cache.
const CHUNK: usize = 2048;

/// The lengths of a step, in units of the pixels' range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lengths {
    pub step: f32,
    pub radius: f32,
}

/// The step on tensors, wherever they lie; all of one shape, and y not one of the others.
pub fn step(
    lengths: Lengths,
    origin: &Tensor,
    x: &Tensor,
    gradient: &Tensor,
    y: &Tensor,
) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Some(engine) = super::cuda::engine_of(x)? {
        return cuda::forward(&engine, lengths, origin, x, gradient, y);
    }
    let (origin, x, gradient) = (read(origin)?, read(x)?, read(gradient)?);
    write(y, |y| forward(lengths, &origin, &x, &gradient, y))
}

/// y from x, the images before any step, and the gradient; all of one length.
pub fn forward(lengths: Lengths, origin: &[f32], x: &[f32], gradient: &[f32], y: &mut [f32]) {
    let Lengths { step, radius } = lengths;
    let from = origin.par_chunks(CHUNK).zip(x.par_chunks(CHUNK));
    y.par_chunks_mut(CHUNK)
        .zip(from.zip(gradient.par_chunks(CHUNK)))
        .for_each(|(y, ((origin, x), gradient))| {
            for (((y, o), x), g) in y.iter_mut().zip(origin).zip(x).zip(gradient) {
                let sign = f32::from(u8::from(*g > 0.0)) - f32::from(u8::from(*g < 0.0));
                let moved = (x + step * sign).clamp(o - radius, o + radius);
                *y = moved.clamp(0.0, 1.0);
            }
        });
}

/// On a GPU.
#[cfg(feature = "cuda")]
pub(crate) mod cuda {
    use candle_core::Tensor;

    use super::Lengths;
    use crate::nn::Result;
    use crate::nn::op::cuda::{Engine, Grid, at};

    pub(crate) const SOURCE: &str = r"
KERNEL sign_step(const float *origin, const float *x, const float *gradient, float *y, float step, float radius, int wide,
                 int n) {
    each_value(wide, n, y, [=](float o, float x, float g) {
        float sign = (g > 0.0f ? 1.0f : 0.0f) - (g < 0.0f ? 1.0f : 0.0f);
        float moved = fminf(fmaxf(x + step * sign, o - radius), o + radius);
        return fminf(fmaxf(moved, 0.0f), 1.0f);
    }, origin, x, gradient);
}
";

    /// As [`super::forward`].
    pub(crate) fn forward(
        engine: &Engine,
        lengths: Lengths,
        origin: &Tensor,
        x: &Tensor,
        gradient: &Tensor,
        y: &Tensor,
    ) -> Result<()> {
        let n = x.elem_count();
        let (origin, x, gradient, y) = (at(origin)?, at(x)?, at(gradient)?, at(y)?);
        let (grid, wide) = Grid::over_values(n, &[origin, x, gradient, y]);
        let args = [
            origin.into(),
            x.into(),
            gradient.into(),
            y.into(),
            lengths.step.into(),
            lengths.radius.into(),
            wide,
            n.into(),
        ];
        engine.launch("sign_step", grid, &args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_stays_in_the_ball_and_in_the_range_and_no_gradient_moves_nothing() {
        let lengths = Lengths {
            step: 0.25,
            radius: 0.375,
        };
        let mut y = [9.0; 4];
        let (origin, x) = ([0.5, 0.5, 0.875, 0.5], [0.75, 0.5, 0.875, 0.5]);
        forward(lengths, &origin, &x, &[2.0, -1e-9, 0.1, 0.0], &mut y);
        assert_eq!(y, [0.875, 0.25, 1.0, 0.5]);
    }
}
