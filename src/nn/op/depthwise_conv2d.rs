//! Depthwise convolution: each channel has a kernel of its own and stays apart from the others.
//!
//! y[b, oy, ox, c] = shift[c] + scale[c] Σ_{ky, kx} w[c, ky, kx] · x[b, oy·s + ky - p, ox·s + kx - p, c], and max(·, 0)
//! where asked for. Scale and shift are a bias, or a batch normalization folded for evaluation.
//! x (B, H, W, C), w (C, 1, k, k), scale and shift (C), y (B, OH, OW, C).
//! Howard et al. 2017, arXiv:1704.04861, section 3.1.
//!
//! A vector holds neighboring channels, and the kernel's weights stay in registers over a tile of positions, so that one
//! load and one multiply-add remain for each weight and position (`kernels`). Positions at the border are tiles of
//! their own with fewer weights (`plan`): nothing is padded.

use rayon::prelude::*;

use super::patches::Geometry;
use super::{Scratch, grown, parts, shares};

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
pub fn forward(
    geometry: &Geometry,
    x: &[f32],
    w: &[f32],
    then: Then<'_>,
    y: &mut [f32],
    scratch: &mut Scratch,
) {
    let g = geometry;
    let batch = x.len() / g.image();
    assert_eq!(x.len(), batch * g.image());
    assert_eq!(y.len(), batch * g.positions() * g.channels);
    let [buffer] = scratch.parts(1) else { return };
    let (packed, start) = constants(g, w, then.scale, then.shift, buffer);
    let floor = if then.relu { 0.0 } else { f32::NEG_INFINITY };
    let (rows, width) = (g.out_height(), g.out_width() * g.channels);
    let jobs = jobs(batch, rows);
    let ys = shares(y, &jobs, width);
    jobs.into_par_iter().zip(ys).for_each(|(job, y)| {
        let (first, range) = of_images(&job, rows);
        let plan = Plan::forward(g, range);
        kernels::correlate(&plan, &x[first * g.image()..], packed, start, floor, y);
    });
}

/// The gradients that are wanted.
pub fn backward(geometry: &Geometry, saved: Saved<'_>, wanted: Wanted<'_>, scratch: &mut Scratch) {
    let g = geometry;
    let Saved { x, w, scale, dy } = saved;
    let batch = x.len() / g.image();
    assert_eq!(x.len(), batch * g.image());
    assert_eq!(dy.len(), batch * g.positions() * g.channels);
    if let Some(dx) = wanted.dx {
        assert_eq!(dx.len(), x.len());
        let [buffer] = scratch.parts(1) else { return };
        let (packed, start) = constants(g, w, scale, None, buffer);
        let jobs = jobs(batch, g.height);
        let dxs = shares(dx, &jobs, g.width * g.channels);
        jobs.into_par_iter().zip(dxs).for_each(|(job, dx)| {
            let (first, range) = of_images(&job, g.height);
            let dy = &dy[first * g.positions() * g.channels..];
            for plan in Plan::backward(g, &range) {
                kernels::correlate(&plan, dy, packed, start, f32::NEG_INFINITY, dx);
            }
        });
    }
    if wanted.dw.is_some() || wanted.db.is_some() {
        let weights = wanted.dw.is_some();
        backward_weights(g, x, dy, weights, scratch, |of_weights, of_shift| {
            if let Some(dw) = wanted.dw {
                unpack(of_weights, dw, g.channels);
            }
            if let Some(db) = wanted.db {
                db.copy_from_slice(of_shift);
            }
        });
    }
}

/// Sums over positions, per part first; the parts are added in order. `done` takes (k·k, C) and (C).
fn backward_weights(
    g: &Geometry,
    x: &[f32],
    dy: &[f32],
    weights: bool,
    scratch: &mut Scratch,
    done: impl FnOnce(&[f32], &[f32]),
) {
    let batch = x.len() / g.image();
    let (rows, width) = (g.out_height(), g.out_width() * g.channels);
    let jobs = jobs(batch, rows);
    let n = g.kernel * g.kernel * g.channels;
    let buffers = scratch.parts(jobs.len());
    jobs.into_par_iter()
        .zip(&mut *buffers)
        .for_each(|(job, buffer)| {
            let (dw, db) = grown(buffer, n + g.channels).split_at_mut(n);
            dw.fill(0.0);
            db.fill(0.0);
            let (first, range) = of_images(&job, rows);
            let dy = &dy[job.start * width..job.end * width];
            kernels::add_rows(dy, db);
            if weights {
                let plan = Plan::forward(g, range);
                kernels::add_weights(&plan, &x[first * g.image()..], dy, dw);
            }
        });
    let [sums, others @ ..] = buffers else { return };
    let sums = &mut sums[..n + g.channels];
    for other in others {
        for (sum, other) in sums.iter_mut().zip(other.iter()) {
            *sum += other;
        }
    }
    done(&sums[..n], &sums[n..]);
}

/// The rows of all images in parts: whole images for each thread, or with fewer images than threads rows of one image.
fn jobs(batch: usize, rows: usize) -> Vec<std::ops::Range<usize>> {
    if batch >= rayon::current_num_threads() {
        let whole = |part: std::ops::Range<usize>| part.start * rows..part.end * rows;
        return parts(batch).into_iter().map(whole).collect();
    }
    let of_image = |image: usize| {
        let shifted =
            move |part: std::ops::Range<usize>| image * rows + part.start..image * rows + part.end;
        parts(rows).into_iter().map(shifted)
    };
    (0..batch).flat_map(of_image).collect()
}

/// The first image of a job, and which of its rows (all, where the job has whole images).
fn of_images(job: &std::ops::Range<usize>, rows: usize) -> (usize, std::ops::Range<usize>) {
    let first = job.start / rows;
    let start = job.start - first * rows;
    (first, start..rows.min(start + job.len()))
}

/// The weights as (k·k, C), times the scale, and what the sums start with, both in a buffer.
fn constants<'a>(
    g: &Geometry,
    w: &[f32],
    scale: Option<&[f32]>,
    shift: Option<&[f32]>,
    buffer: &'a mut Vec<f32>,
) -> (&'a [f32], &'a [f32]) {
    let taps = g.kernel * g.kernel;
    assert_eq!(w.len(), taps * g.channels);
    let (packed, start) = grown(buffer, (taps + 1) * g.channels).split_at_mut(taps * g.channels);
    for (tap, row) in packed.chunks_exact_mut(g.channels).enumerate() {
        for (packed, w) in row.iter_mut().zip(w.chunks_exact(taps)) {
            *packed = w[tap];
        }
        for (packed, scale) in row.iter_mut().zip(scale.unwrap_or_default()) {
            *packed *= scale;
        }
    }
    match shift {
        Some(shift) => start.copy_from_slice(shift),
        None => start.fill(0.0),
    }
    (packed, start)
}

/// (k·k, C) as (C, 1, k, k).
fn unpack(packed: &[f32], w: &mut [f32], channels: usize) {
    let taps = w.len() / channels;
    for (tap, row) in packed.chunks_exact(channels).enumerate() {
        for (packed, w) in row.iter().zip(w.chunks_exact_mut(taps)) {
            w[tap] = *packed;
        }
    }
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
        forward(&g, &x, &w, Then::default(), &mut y, &mut Scratch::default());
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
        forward(&g, &x, &w, then, &mut y, &mut Scratch::default());
        assert_eq!((y[0], y[1], y[3]), (2.5, 0.0, 2.5));
        assert!(y[2].is_nan());
    }

    /// At stride 2 the middle of the kernel sees every other pixel; the others get no gradient from it.
    #[test]
    fn the_stride_leaves_pixels_out() {
        let g = geometry(1, 5, 2);
        let x: Vec<f32> = (0..25).map(|v| v as f32).collect();
        let mut y = vec![f32::NAN; 9];
        let mut scratch = Scratch::default();
        forward(&g, &x, &IDENTITY, Then::default(), &mut y, &mut scratch);
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
        backward(&g, saved, wanted, &mut scratch);
        let expected = |at: usize| f32::from(at / 5 % 2 == 0 && at % 5 % 2 == 0);
        assert!((0..25).all(|at| dx[at] == expected(at)), "{dx:?}");
    }
}
