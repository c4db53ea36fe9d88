//! Convolution and linear layer on stored activations: 8-bit weights, 32-bit sums.
//!
//! a[p, o] = Σ (x[s·oy + ky - padding, s·ox + kx - padding, c] - z_x) W[o, c, ky, kx], then [`Requantize`] gives bytes, or
//! the last layer's sums their scale. x (B, H, W, C) bytes, W (O, C, k, k), y (B, OH, OW, O). The padding is the zero
//! point, which stands for 0.
//!
//! Patches are read where they lie, as with floats (`op::conv2d`): in lines copied with their padding, widened to 16 bits less
//! the zero point; or as bytes where the processor multiplies those, and then z_x Σ W, the same for all positions, is
//! taken from the sums. 3x3 kernels at stride 1 are filtered ([`super::winograd`]), with equal sums, bit for bit.

use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

use super::kernel::{Left, pack, panel, product};
use super::lines::{Copies, Reading};
use super::path::{Group, Products, Unit};
use super::requantize::Requantize;
use super::winograd::Filter;
use super::{Buffers, Scratch};
use crate::nn::op::geometry::{Geometry, chunks, pieces};
use crate::nn::op::{parts, shares};

/// Lines are copied as many at a time as have, or give, about this many values, so that they are still in a core's own cache
/// (512 KiB and more) when they are read, together with a panel of weights.
const CHUNK: usize = 64 * 1024;

/// The most sums of a tile.
const TILE: usize = 8 * 32;

/// Weights of a convolution, or of a linear layer as a convolution over images of one pixel.
#[derive(Debug)]
pub struct Conv2d {
    reading: Reading,
    outputs: usize,
    /// (O, k, k, C).
    weights: Vec<i8>,
    products: Products,
    packed: OnceLock<Vec<i32>>,
    /// Where filtering is shorter.
    filter: Option<OnceLock<Filter>>,
}

/// What becomes of a tile's sums.
trait End: Sync {
    type Stored: Send;

    /// As [`Requantize::rows`].
    fn rows(
        &self,
        first: usize,
        columns: usize,
        sums: (&[i32], usize),
        y: (&mut [Self::Stored], usize),
    );
}

impl End for Requantize {
    type Stored = u8;

    fn rows(&self, first: usize, columns: usize, sums: (&[i32], usize), y: (&mut [u8], usize)) {
        Requantize::rows(self, first, columns, sums, y);
    }
}

/// Sums as they are.
struct Plain;

impl End for Plain {
    type Stored = i32;

    fn rows(&self, _: usize, columns: usize, sums: (&[i32], usize), y: (&mut [i32], usize)) {
        for (sums, y) in sums.0.chunks_exact(sums.1).zip(y.0.chunks_mut(y.1)) {
            y[..columns].copy_from_slice(&sums[..columns]);
        }
    }
}

impl Conv2d {
    /// Of weights (O, C, k, k) over activations with that zero point.
    pub fn new(geometry: Geometry, zero: u8, weights: &[i8], products: Products) -> Self {
        let (c, taps) = (geometry.channels, geometry.kernel * geometry.kernel);
        let outputs = weights.len() / geometry.depth();
        assert_eq!(weights.len(), outputs * geometry.depth());
        let mut moved = vec![0; weights.len()];
        for (moved, own) in moved
            .chunks_exact_mut(c * taps)
            .zip(weights.chunks_exact(c * taps))
        {
            for (at, moved) in moved.iter_mut().enumerate() {
                *moved = own[at % c * taps + at / c];
            }
        }
        let filter = Filter::suits(&geometry, outputs, &products).then(OnceLock::new);
        Self {
            reading: Reading {
                geometry,
                group: products.direct.group,
                zero,
            },
            outputs,
            weights: moved,
            products,
            packed: OnceLock::new(),
            filter,
        }
    }

    /// The largest sum that any activation gives each output, on either side of 0.
    pub fn most(&self) -> Vec<f64> {
        let (down, up) = (
            f64::from(self.reading.zero),
            f64::from(255 - self.reading.zero),
        );
        let of_output = |weights: &[i8]| {
            let sum = |sign: f64| -> f64 {
                let kept = weights.iter().map(|w| (sign * f64::from(*w)).max(0.0));
                kept.sum()
            };
            let (above, below) = (sum(1.0), sum(-1.0));
            (up * above + down * below).max(down * above + up * below)
        };
        let outputs = self.weights.chunks_exact(self.reading.geometry.depth());
        outputs.map(of_output).collect()
    }

    /// Values of one image that come out.
    pub fn values(&self) -> usize {
        self.reading.geometry.positions() * self.outputs
    }

    /// y = what the sums are stored as. `x` has [`super::SLACK`] bytes behind its end.
    pub fn forward(&self, x: &[u8], then: &Requantize, y: &mut [u8], scratch: &mut Scratch) {
        assert_eq!(then.channels(), self.outputs);
        let batch = y.len() / self.values();
        if let Some(filter) = &self.filter
            && Filter::pays(&self.reading.geometry, batch)
        {
            filter
                .get_or_init(|| self.filtered())
                .forward(x, then, y, scratch);
            return;
        }
        self.direct(x, then, y, scratch);
    }

    /// y = the sums. `x` as above.
    pub fn sums(&self, x: &[u8], y: &mut [i32], scratch: &mut Scratch) {
        self.direct(x, &Plain, y, scratch);
    }

    fn filtered(&self) -> Filter {
        let Reading { geometry, zero, .. } = self.reading;
        Filter::new(geometry, zero, &self.weights, self.products.pairs)
    }

    fn unit(&self) -> &Unit {
        &self.products.direct
    }

    /// Values of each row of a kernel.
    fn segments(&self) -> Vec<usize> {
        let g = &self.reading.geometry;
        vec![g.kernel * g.channels; g.kernel]
    }

    fn pack(&self) -> Vec<i32> {
        let depth = self.reading.geometry.depth();
        let segments = self.segments();
        let row = segments[0];
        let start = |output: usize| match self.unit().group {
            Group::Pairs => 0,
            Group::Quads => {
                let own = &self.weights[output * depth..][..depth];
                -i32::from(self.reading.zero) * own.iter().map(|w| i32::from(*w)).sum::<i32>()
            }
        };
        pack(
            self.unit(),
            &segments,
            self.outputs,
            start,
            |ky, at, output| i32::from(self.weights[output * depth + ky * row + at]),
        )
    }

    fn direct<E: End>(&self, x: &[u8], end: &E, y: &mut [E::Stored], scratch: &mut Scratch) {
        let g = &self.reading.geometry;
        let batch = y.len() / self.values();
        let packed = self.packed.get_or_init(|| self.pack());
        let parts = parts(batch * g.out_height());
        let ys = shares(y, &parts, g.out_width() * self.outputs);
        let buffers = scratch.lend(parts.len());
        parts
            .into_par_iter()
            .zip(ys)
            .zip(buffers)
            .for_each(|((part, y), buffers)| self.part(part, x, packed, end, y, buffers));
    }

    /// Some lines of the output.
    fn part<E: End>(
        &self,
        part: Range<usize>,
        x: &[u8],
        packed: &[i32],
        end: &E,
        y: &mut [E::Stored],
        buffers: &mut Buffers,
    ) {
        let (g, unit) = (&self.reading.geometry, self.unit());
        let line = g.out_width() * self.outputs;
        let segments = self.reading.segments();
        let panel = panel(unit, &self.segments());
        let wanted = CHUNK / (g.stride * self.reading.pitch()).max(line);
        let begin = part.start;
        let Buffers {
            bytes,
            shorts,
            rows,
            ..
        } = buffers;
        let mut sums = [0_i32; TILE];
        for chunk in chunks(part, g.out_height(), wanted) {
            let y = &mut y[(chunk.start - begin) * line..(chunk.end - begin) * line];
            rows.clear();
            let copies = Copies {
                bytes: &mut *bytes,
                shorts: &mut *shorts,
            };
            let own = pieces(chunk, g.out_height());
            let values = self.reading.patches(own, x, copies, rows);
            let left = Left::new(values, rows, &segments);
            for (at, panel) in packed.chunks_exact(panel).enumerate() {
                let first = at * unit.width;
                let columns = unit.width.min(self.outputs - first);
                for from in (0..rows.len()).step_by(unit.rows) {
                    let to = rows.len().min(from + unit.rows);
                    let sums = &mut sums[..(to - from) * unit.width];
                    product(unit, &left, from..to, panel, sums, unit.width);
                    let y = &mut y
                        [from * self.outputs + first..(to - 1) * self.outputs + first + columns];
                    end.rows(first, columns, (sums, unit.width), (y, self.outputs));
                }
            }
        }
    }
}
