//! Lines of images, copied with zeros around them, and the lines of gradients that come back through ReLU and pooling.

use super::{Conv2d, Geometry, Piece, Saved, Segment, Then, Windows};
use crate::nn::op::relu::masked;
use crate::nn::op::simd::vectorized;

/// Pixels of a copied line.
pub(super) fn padded_width(g: &Geometry) -> usize {
    g.width + 2 * g.padding
}

/// Copied lines that some output lines read.
fn padded_lines(g: &Geometry, count: usize) -> usize {
    (count - 1) * g.stride + g.kernel
}

/// Whether patches are read from the images themselves.
fn in_place(g: &Geometry) -> bool {
    g.padding == 0
}

/// How many values [`patches`] copies.
pub(super) fn padded_size(g: &Geometry, pieces: impl Iterator<Item = Piece>) -> usize {
    if in_place(g) {
        return 0;
    }
    let lines: usize = pieces.map(|piece| padded_lines(g, piece.count)).sum();
    lines * padded_width(g) * g.channels
}

/// The values that the patches of some output lines are read from, and where each position's patch begins.
pub(super) fn patches<'a>(
    g: &Geometry,
    pieces: impl Iterator<Item = Piece>,
    x: &'a [f32],
    copied: &'a mut [f32],
    begins: &mut Vec<usize>,
) -> &'a [f32] {
    let pitch = padded_width(g) * g.channels;
    let mut at = 0;
    for piece in pieces {
        let lines = padded_lines(g, piece.count);
        let base = if in_place(g) {
            piece.image * g.image() + piece.first * g.stride * pitch
        } else {
            let image = &x[piece.image * g.image()..][..g.image()];
            let copied = copied[at..][..lines * pitch].chunks_exact_mut(pitch);
            for (line, copied) in copied.enumerate() {
                let y = (piece.first * g.stride + line).wrapping_sub(g.padding);
                copy_line(g, image, y, copied);
            }
            let base = at;
            at += lines * pitch;
            base
        };
        for line in 0..piece.count {
            let first = base + line * g.stride * pitch;
            begins.extend((0..g.out_width()).map(|ox| first + ox * g.stride * g.channels));
        }
    }
    if in_place(g) { x } else { copied }
}

/// A line with zeros at both ends, however long the copy is; all zeros outside of the image.
pub(super) fn copy_line(g: &Geometry, image: &[f32], y: usize, copied: &mut [f32]) {
    if y >= g.height {
        copied.fill(0.0);
        return;
    }
    let (margin, length) = (g.padding * g.channels, g.width * g.channels);
    copied[..margin].fill(0.0);
    copied[margin..margin + length].copy_from_slice(&image[y * length..(y + 1) * length]);
    copied[margin + length..].fill(0.0);
}

/// What a patch is made of, from its beginning: k rows of k·C values.
pub(super) fn windows(g: &Geometry) -> Vec<Segment> {
    let pitch = padded_width(g) * g.channels;
    let row = |ky: usize| Segment {
        offset: ky * pitch,
        length: g.kernel * g.channels,
    };
    (0..g.kernel).map(row).collect()
}

vectorized! {
    /// One line of windows: the maxima of the convolution's lines `raw`, and the places of the first of them.
    pub(super) fn pool<V>(windows: &Windows, raw: &[f32], pitch: usize, y: &mut [f32], place: &mut [u8], channels: usize) {
        let windows_of_line = y.chunks_exact_mut(channels).zip(place.chunks_exact_mut(channels));
        for (ox, (y, place)) in windows_of_line.enumerate() {
            let first = ox * windows.stride * channels;
            let (y, y_rest) = y.as_chunks_mut::<BLOCK>();
            let (place, place_rest) = place.as_chunks_mut::<BLOCK>();
            let whole = y.len() * BLOCK;
            for (block, (y, place)) in y.iter_mut().zip(place).enumerate() {
                maxima(windows, &raw[first + block * BLOCK..], pitch, channels, y, place);
            }
            for (c, (y, place)) in y_rest.iter_mut().zip(place_rest).enumerate() {
                let (mut of_y, mut of_place) = ([0.0], [0]);
                maxima(windows, &raw[first + whole + c..], pitch, channels, &mut of_y, &mut of_place);
                (*y, *place) = (of_y[0], of_place[0]);
            }
        }
    }
}

/// Channels that are pooled together: enough for the widest registers.
const BLOCK: usize = 16;

/// The maxima of one window in neighboring channels. A NaN wins, so that a diverged network does not look healthy.
#[expect(clippy::inline_always, reason = "part of a vectorized body")]
#[inline(always)]
fn maxima<const N: usize>(
    windows: &Windows,
    raw: &[f32],
    pitch: usize,
    channels: usize,
    y: &mut [f32; N],
    place: &mut [u8; N],
) {
    let (mut best, mut at) = ([f32::NEG_INFINITY; N], [0_u32; N]);
    for ky in 0..windows.kernel {
        for kx in 0..windows.kernel {
            let tap = (ky * windows.kernel + kx) as u32;
            let Some(x) = raw[ky * pitch + kx * channels..].first_chunk::<N>() else {
                return;
            };
            for i in 0..N {
                let later = (x[i] > best[i]) | x[i].is_nan();
                at[i] = if later { tap } else { at[i] };
                best[i] = if later { x[i] } else { best[i] };
            }
        }
    }
    *y = best;
    *place = at.map(|at| at as u8);
}

/// A line of the gradient of the convolution's own output: what came back through the ReLU and the pooling.
pub(super) fn gradient(
    conv: &Conv2d,
    saved: &Saved<'_>,
    image: usize,
    line: usize,
    out: &mut [f32],
) {
    let length = conv.geometry.out_width() * conv.outputs;
    let at = (image * conv.geometry.out_height() + line) * length;
    match conv.then {
        Then::Nothing => out.copy_from_slice(&saved.dy[at..at + length]),
        Then::Relu => masked(&saved.y[at..at + length], &saved.dy[at..at + length], out),
        Then::ReluMaxPool(windows) => {
            let (window, ky) = (line / windows.stride, line % windows.stride);
            if window >= windows.out_height() || ky >= windows.kernel {
                out.fill(0.0);
                return;
            }
            let length = windows.out_width() * conv.outputs;
            let at = (image * windows.out_height() + window) * length;
            let of = at..at + length;
            spread_line(
                &windows,
                ky,
                &saved.y[of.clone()],
                &saved.place[of.clone()],
                &saved.dy[of],
                out,
                conv.outputs,
            );
        }
    }
}

vectorized! {
    /// One line under a row of windows: dy at the places of maxima above 0, else 0.
    fn spread_line<V>(windows: &Windows, ky: usize, y: &[f32], place: &[u8], dy: &[f32], out: &mut [f32], channels: usize) {
        let mut done = 0;
        let maxima = y.chunks_exact(channels).zip(place.chunks_exact(channels)).zip(dy.chunks_exact(channels));
        for (ox, ((y, place), dy)) in maxima.enumerate() {
            let first = ox * windows.stride * channels;
            out[done..first].fill(0.0);
            done = first + windows.kernel * channels;
            for (kx, out) in out[first..done].chunks_exact_mut(channels).enumerate() {
                let tap = (ky * windows.kernel + kx) as u8;
                for (out, ((y, place), dy)) in out.iter_mut().zip(y.iter().zip(place).zip(dy)) {
                    // Two choices instead of one of both: a short circuit would keep the compiler from vectors.
                    let positive = if *y > 0.0 { *dy } else { 0.0 };
                    *out = if *place == tap { positive } else { 0.0 };
                }
            }
        }
        out[done..].fill(0.0);
    }
}
