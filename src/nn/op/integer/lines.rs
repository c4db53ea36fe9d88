//! Lines of stored activations, copied with the zero point around them.

use super::kernel::Segment;
use super::path::Group;
use crate::nn::op::geometry::{Geometry, Piece};
use crate::nn::op::simd::vectorized;

/// Pixels of a copied line.
fn padded_width(g: &Geometry) -> usize {
    g.width + 2 * g.padding
}

/// Lines under some output lines.
fn padded_lines(g: &Geometry, count: usize) -> usize {
    (count - 1) * g.stride + g.kernel
}

/// How a product reads an activation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) geometry: Geometry,
    pub(super) group: Group,
    /// The zero point.
    pub(super) zero: u8,
}

/// What the copied lines lie in.
pub(super) struct Copies<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) shorts: &'a mut Vec<i16>,
}

impl Reading {
    /// Values of a copied line.
    pub(super) fn pitch(&self) -> usize {
        padded_width(&self.geometry) * self.geometry.channels
    }

    /// Whether patches are read from the activation itself.
    fn in_place(&self) -> bool {
        self.geometry.padding == 0 && self.group == Group::Quads
    }

    /// What a patch is made of, from its beginning: k rows of k·C values.
    pub(super) fn segments(&self) -> Vec<Segment> {
        let g = &self.geometry;
        let row = |ky: usize| Segment {
            offset: ky * self.pitch() * self.group.bytes(),
            words: (g.kernel * g.channels).div_ceil(self.group.size()),
        };
        (0..g.kernel).map(row).collect()
    }

    /// The bytes that the patches of some output lines are read from; `begins` is given where each position's patch begins.
    pub(super) fn patches<'a>(
        &self,
        pieces: impl Iterator<Item = Piece> + Clone,
        x: &'a [u8],
        copies: Copies<'a>,
        begins: &mut Vec<usize>,
    ) -> &'a [u8] {
        let (g, pitch) = (&self.geometry, self.pitch());
        let lines: usize = pieces.clone().map(|p| padded_lines(g, p.count)).sum();
        let Copies { bytes, shorts } = copies;
        // The last word of a patch may reach beyond it.
        let values = lines * pitch + 4;
        match self.group {
            _ if self.in_place() => {}
            Group::Pairs => _ = super::grown(shorts, values),
            Group::Quads => _ = super::grown(bytes, values),
        }
        let mut at = 0;
        for piece in pieces {
            let lines = padded_lines(g, piece.count);
            let image = piece.image * g.image();
            let base = if self.in_place() {
                image + piece.first * g.stride * pitch
            } else {
                let image = &x[image..][..g.image()];
                for line in 0..lines {
                    let y = (piece.first * g.stride + line).wrapping_sub(g.padding);
                    let own = at + line * pitch..at + (line + 1) * pitch;
                    match self.group {
                        Group::Pairs => self.widened_line(image, y, &mut shorts[own]),
                        Group::Quads => self.line(image, y, &mut bytes[own]),
                    }
                }
                at += lines * pitch;
                at - lines * pitch
            };
            for line in 0..piece.count {
                let first = base + line * g.stride * pitch;
                let of_column =
                    |ox: usize| (first + ox * g.stride * g.channels) * self.group.bytes();
                begins.extend((0..g.out_width()).map(of_column));
            }
        }
        match self.group {
            _ if self.in_place() => x,
            Group::Pairs => bytes_of(&shorts[..values]),
            Group::Quads => &bytes[..values],
        }
    }

    /// The margin of a line, and its pixels in an image; none outside of it.
    fn inside<'a>(&self, image: &'a [u8], y: usize) -> Option<(usize, &'a [u8])> {
        let g = &self.geometry;
        let length = g.width * g.channels;
        (y < g.height).then(|| (g.padding * g.channels, &image[y * length..][..length]))
    }

    fn line(&self, image: &[u8], y: usize, copied: &mut [u8]) {
        let Some((margin, pixels)) = self.inside(image, y) else {
            copied.fill(self.zero);
            return;
        };
        copied[..margin].fill(self.zero);
        copied[margin..margin + pixels.len()].copy_from_slice(pixels);
        copied[margin + pixels.len()..].fill(self.zero);
    }

    fn widened_line(&self, image: &[u8], y: usize, copied: &mut [i16]) {
        let Some((margin, pixels)) = self.inside(image, y) else {
            copied.fill(0);
            return;
        };
        copied[..margin].fill(0);
        widen(
            pixels,
            self.zero,
            &mut copied[margin..margin + pixels.len()],
        );
        copied[margin + pixels.len()..].fill(0);
    }
}

vectorized! {
    /// Less the zero point, in 16 bits.
    fn widen<V>(pixels: &[u8], zero: u8, widened: &mut [i16]) {
        for (widened, pixel) in widened.iter_mut().zip(pixels) {
            *widened = i16::from(*pixel) - i16::from(zero);
        }
    }
}

/// A line whose pixels have `channels` values, more than the image's: what is not there is the zero point. `pixels` of them,
/// beginning at column `-padding`.
pub(super) fn spread(
    g: &Geometry,
    zero: u8,
    channels: usize,
    image: &[u8],
    y: usize,
    copied: &mut [u8],
) {
    if y >= g.height {
        copied.fill(zero);
        return;
    }
    let line = &image[y * g.width * g.channels..][..g.width * g.channels];
    let margin = g.padding * channels;
    copied[..margin].fill(zero);
    let end = margin + g.width * channels;
    if channels == g.channels {
        copied[margin..end].copy_from_slice(line);
    } else {
        let pixels = copied[margin..end].chunks_exact_mut(channels);
        for (copied, pixel) in pixels.zip(line.chunks_exact(g.channels)) {
            copied[..g.channels].copy_from_slice(pixel);
            copied[g.channels..].fill(zero);
        }
    }
    copied[end..].fill(zero);
}

/// The bytes of 16-bit integers, as the processor has them.
#[expect(
    unsafe_code,
    reason = "the kernel reads words of any small integers by their bytes"
)]
pub(super) fn bytes_of(shorts: &[i16]) -> &[u8] {
    // SAFETY: a 16-bit integer is two bytes, each of which may hold anything.
    unsafe { std::slice::from_raw_parts(shorts.as_ptr().cast(), 2 * shorts.len()) }
}
