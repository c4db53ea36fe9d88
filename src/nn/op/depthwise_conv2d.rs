//! Depthwise convolution: each channel has a kernel of its own and stays apart from the others.
//!
//! y[b, oy, ox, c] = shift[c] + scale[c] Σ_{ky, kx} w[c, ky, kx] · x[b, oy·s + ky - p, ox·s + kx - p, c], and max(·, 0)
//! where asked for. Scale and shift are a bias, or a batch normalization folded for evaluation.
//! x (B, H, W, C), w (C, 1, k, k), scale and shift (C), y (B, OH, OW, C).
//! Howard et al. 2017, arXiv:1704.04861, section 3.1.
//!
//! Vectors hold neighboring channels; a few neighboring positions are computed together and share what they load
//! (`kernels`). dx is a correlation of dy, at stride s one for each of s·s kinds of position (`plan`).

use std::ops::Range;

use rayon::prelude::*;

use super::geometry::Geometry;
use super::{parts, shares};

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod kernels;
mod plan;

use plan::Plan;

/// What is done to the sums in the same pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Then<'a> {
    pub scale: Option<&'a [f32]>,
    pub shift: Option<&'a [f32]>,
    pub relu: bool,
}

/// What a backward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    pub x: &'a [f32],
    pub w: &'a [f32],
    /// The scale of forward, if there was one. The gradients of w and of the shift are those without a scale.
    pub scale: Option<&'a [f32]>,
    /// Behind the ReLU's mask, if there was one.
    pub dy: &'a [f32],
}

/// What a backward pass writes: as much as is wanted.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    pub dx: Option<&'a mut [f32]>,
    pub dw: Option<&'a mut [f32]>,
    /// Of the shift.
    pub db: Option<&'a mut [f32]>,
}

/// y from x.
pub fn forward(geometry: &Geometry, x: &[f32], w: &[f32], then: Then<'_>, y: &mut [f32]) {
    let g = geometry;
    let batch = x.len() / g.image();
    assert_eq!(x.len(), batch * g.image());
    assert_eq!(y.len(), batch * g.positions() * g.channels);
    let weights = Weights::new(g, w, then.scale, then.shift);
    let floor = if then.relu { 0.0 } else { f32::NEG_INFINITY };
    let rows = g.out_height();
    let jobs = jobs(batch, rows);
    let ys = shares(y, &jobs, g.out_width() * g.channels);
    let jobs = jobs.into_par_iter().zip(ys);
    jobs.for_each(|(job, y)| {
        let (images, range) = of_images(&job, rows);
        let plan = Plan::forward(g, &range);
        weights.correlate(&plan, &x[images.start * g.image()..], floor, y);
    });
}

/// The gradients that are wanted.
pub fn backward(geometry: &Geometry, saved: Saved<'_>, wanted: Wanted<'_>) {
    let g = geometry;
    let Saved { x, w, scale, dy } = saved;
    let batch = x.len() / g.image();
    let image = g.positions() * g.channels;
    assert_eq!(x.len(), batch * g.image());
    assert_eq!(dy.len(), batch * image);
    if let Some(dx) = wanted.dx {
        assert_eq!(dx.len(), x.len());
        let weights = Weights::new(g, w, scale, None);
        let jobs = jobs(batch, g.height);
        let dxs = shares(dx, &jobs, g.width * g.channels);
        let jobs = jobs.into_par_iter().zip(dxs);
        jobs.for_each(|(job, dx)| {
            let (images, range) = of_images(&job, g.height);
            let plan = Plan::backward(g, &range);
            let dy = &dy[images.start * image..];
            weights.correlate(&plan, dy, f32::NEG_INFINITY, dx);
        });
    }
    if let Some(dw) = wanted.dw {
        backward_weights(g, x, dy, dw);
    }
    if let Some(db) = wanted.db {
        let parts = parts(dy.len() / g.channels);
        let sums = parts.into_par_iter().map(|part| {
            let mut sums = vec![0.0; g.channels];
            kernels::add_rows(
                &dy[part.start * g.channels..part.end * g.channels],
                &mut sums,
            );
            sums
        });
        let sums: Vec<Vec<f32>> = sums.collect();
        db.fill(0.0);
        for sums in &sums {
            kernels::add_rows(sums, db);
        }
    }
}

/// Sums over positions, per part first; the parts are added in order.
fn backward_weights(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (rows, width) = (g.out_height(), g.out_width() * g.channels);
    let taps = g.kernel * g.kernel;
    let of_jobs = jobs(x.len() / g.image(), rows).into_par_iter().map(|job| {
        let (images, range) = of_images(&job, rows);
        let plan = Plan::forward(g, &range);
        let dy = &dy[job.start * width..job.end * width];
        let mut sums = vec![0.0; taps * g.channels];
        kernels::add_weights(&plan, &x[images.start * g.image()..], dy, &mut sums);
        sums
    });
    let of_jobs: Vec<Vec<f32>> = of_jobs.collect();
    for (c, dw) in dw.chunks_exact_mut(taps).enumerate() {
        for (tap, dw) in dw.iter_mut().enumerate() {
            *dw = of_jobs.iter().map(|sums| sums[tap * g.channels + c]).sum();
        }
    }
}

/// The weights as (k·k, C), times the scale; and what the sums start with.
struct Weights {
    taps: Vec<f32>,
    start: Vec<f32>,
}

impl Weights {
    fn new(g: &Geometry, w: &[f32], scale: Option<&[f32]>, shift: Option<&[f32]>) -> Self {
        let n = g.kernel * g.kernel;
        assert_eq!(w.len(), n * g.channels);
        let mut taps = vec![0.0; w.len()];
        for (tap, row) in taps.chunks_exact_mut(g.channels).enumerate() {
            for (row, w) in row.iter_mut().zip(w.chunks_exact(n)) {
                *row = w[tap];
            }
            for (row, scale) in row.iter_mut().zip(scale.unwrap_or_default()) {
                *row *= scale;
            }
        }
        let start = shift.map_or_else(|| vec![0.0; g.channels], <[f32]>::to_vec);
        Self { taps, start }
    }

    fn correlate(&self, plan: &Plan, x: &[f32], floor: f32, y: &mut [f32]) {
        kernels::correlate(plan, x, &self.taps, &self.start, floor, y);
    }
}

/// The rows of all images in parts: whole images for each thread, or with fewer images than threads rows of one image.
fn jobs(batch: usize, rows: usize) -> Vec<Range<usize>> {
    if batch >= rayon::current_num_threads() {
        let whole = |part: Range<usize>| part.start * rows..part.end * rows;
        return parts(batch).into_iter().map(whole).collect();
    }
    let of_image = |image: usize| {
        let shifted = move |part: Range<usize>| image * rows + part.start..image * rows + part.end;
        parts(rows).into_iter().map(shifted)
    };
    (0..batch).flat_map(of_image).collect()
}

/// The images of a job, and which of their rows (all, or some of one image).
fn of_images(job: &Range<usize>, rows: usize) -> (Range<usize>, Range<usize>) {
    let images = job.start / rows..job.end.div_ceil(rows);
    let start = job.start - images.start * rows;
    (images, start..rows.min(start + job.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: [f32; 9] = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];

    fn geometry(channels: usize, side: usize, stride: usize) -> Geometry {
        Geometry {
            channels,
            height: side,
            width: side,
            kernel: 3,
            stride,
            padding: 1,
        }
    }

    /// Each channel with its own kernel: one copies, one shifts by a pixel, one sums.
    #[test]
    fn channels_stay_apart() {
        let g = geometry(3, 2, 1);
        let mut w = IDENTITY.to_vec();
        w.extend([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        w.extend([1.0; 9]);
        // Pixels 1 2 / 3 4 of the first channel, ten times that of the second, a hundred times that of the third.
        let x: Vec<f32> = (1..=4)
            .flat_map(|v| [v as f32, 10.0 * v as f32, 100.0 * v as f32])
            .collect();
        let mut y = vec![f32::NAN; 12];
        forward(&g, &x, &w, Then::default(), &mut y);
        assert_eq!(
            y,
            [
                1.0, 0.0, 1000.0, 2.0, 10.0, 1000.0, 3.0, 0.0, 1000.0, 4.0, 30.0, 1000.0
            ]
        );
    }

    #[test]
    fn scale_shift_and_relu_follow_in_the_same_pass() {
        let g = geometry(2, 1, 1);
        let w = [IDENTITY, IDENTITY].concat();
        let then = Then {
            scale: Some(&[2.0, -2.0]),
            shift: Some(&[0.5, 0.5]),
            relu: true,
        };
        let mut y = vec![f32::NAN; 4];
        let x = [1.0, 1.0, f32::NAN, -1.0];
        forward(&g, &x, &w, then, &mut y);
        assert_eq!((y[0], y[1], y[3]), (2.5, 0.0, 2.5));
        assert!(y[2].is_nan());
    }

    /// At stride 2 the middle of the kernel sees every other pixel; the others get no gradient from it.
    #[test]
    fn the_stride_leaves_pixels_out() {
        let g = geometry(1, 5, 2);
        let x: Vec<f32> = (0..25).map(|v| v as f32).collect();
        let mut y = vec![f32::NAN; 9];
        forward(&g, &x, &IDENTITY, Then::default(), &mut y);
        assert_eq!(y, [0.0, 2.0, 4.0, 10.0, 12.0, 14.0, 20.0, 22.0, 24.0]);
        let mut dx = vec![f32::NAN; 25];
        let saved = Saved {
            x: &x,
            w: &IDENTITY,
            scale: None,
            dy: &[1.0; 9],
        };
        let wanted = Wanted {
            dx: Some(&mut dx),
            ..Wanted::default()
        };
        backward(&g, saved, wanted);
        let expected =
            |at: usize| f32::from((at / 5).is_multiple_of(2) && (at % 5).is_multiple_of(2));
        assert!((0..25).all(|at| dx[at] == expected(at)), "{dx:?}");
    }
}
