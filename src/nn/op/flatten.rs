//! Flattening: (B, H, W, C) -> (B, C·H·W), in the order of channels, rows and columns that PyTorch's linear layers expect.

use rayon::prelude::*;

use super::{parts, shares};

/// Whether both orders are one: then nothing moves. The shape is one example's, (C, H, W).
pub fn is_view(input: &[usize]) -> bool {
    match input {
        [channels, height, width] => *channels == 1 || height * width == 1,
        _ => true,
    }
}

/// Channels last to channels first.
pub fn forward(input: &[usize], x: &[f32], y: &mut [f32]) {
    let [channels, pixels] = sizes(input);
    transpose(pixels, channels, x, y);
}

/// The way back.
pub fn backward(input: &[usize], dy: &[f32], dx: &mut [f32]) {
    let [channels, pixels] = sizes(input);
    transpose(channels, pixels, dy, dx);
}

fn sizes(input: &[usize]) -> [usize; 2] {
    match input {
        [channels, positions @ ..] => [*channels, positions.iter().product()],
        [] => [1, 1],
    }
}

/// Each example's `rows` x `columns` become `columns` x `rows`.
fn transpose(rows: usize, columns: usize, from: &[f32], to: &mut [f32]) {
    let each = rows * columns;
    let parts = parts(from.len() / each);
    let targets = shares(to, &parts, each);
    parts.into_par_iter().zip(targets).for_each(|(part, to)| {
        let from = from[part.start * each..part.end * each].chunks_exact(each);
        for (from, to) in from.zip(to.chunks_exact_mut(each)) {
            for (column, to) in to.chunks_exact_mut(rows).enumerate() {
                for (to, from) in to.iter_mut().zip(from[column..].iter().step_by(columns)) {
                    *to = *from;
                }
            }
        }
    });
}

/// On a GPU.
#[cfg(feature = "cuda")]
pub(crate) mod cuda {
    use candle_core::Tensor;

    use super::sizes;
    use crate::nn::Result;
    use crate::nn::op::cuda::{Engine, Grid, at};

    pub(crate) const SOURCE: &str = r"
KERNEL transpose_each(const float *from, float *to, int rows, int columns, int n) {
    EACH(i, n) {
        int row = i % rows, column = i / rows % columns, image = i / rows / columns;
        to[i] = from[(image * rows + row) * columns + column];
    }
}
";

    /// As [`super::forward`].
    pub(crate) fn forward(engine: &Engine, input: &[usize], x: &Tensor, y: &Tensor) -> Result<()> {
        let [channels, pixels] = sizes(input);
        transpose(engine, pixels, channels, x, y)
    }

    /// As [`super::backward`].
    pub(crate) fn backward(
        engine: &Engine,
        input: &[usize],
        dy: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        let [channels, pixels] = sizes(input);
        transpose(engine, channels, pixels, dy, dx)
    }

    fn transpose(
        engine: &Engine,
        rows: usize,
        columns: usize,
        from: &Tensor,
        to: &Tensor,
    ) -> Result<()> {
        let n = from.elem_count();
        let args = [
            at(from)?.into(),
            at(to)?.into(),
            rows.into(),
            columns.into(),
            n.into(),
        ];
        engine.launch("transpose_each", Grid::over(n), &args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_first_and_go_last_again() {
        // Two channels at three positions: 1 2 3 and 10 20 30.
        let x = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0];
        let (mut y, mut back) = ([0.0; 6], [0.0; 6]);
        forward(&[2, 1, 3], &x, &mut y);
        assert_eq!(y, [1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
        backward(&[2, 1, 3], &y, &mut back);
        assert_eq!(back, x);
    }
}
