//! The gradient of the input.
//!
//! dx[iy, ix, c] = Σ W[o, c, ky, kx] · dy[oy, ox, o] over all taps with s·oy + ky = iy + padding (columns likewise).
//! At stride s the positions of x fall into s·s phases; those of one phase see the same taps, which form a convolution at
//! stride 1 with a part of the kernel, mirrored. So no product is with a zero in between.

use rayon::prelude::*;

use super::{
    Add, Conv2d, Finish, Left, Piece, Saved, Segment, Then, chunks, lines, pack, panels, pieces,
    product,
};
use super::{CHUNK, Geometry, winograd};
use crate::nn::op::{Scratch, grown, parts, shares};

/// Positions of x with the same remainders, and the taps that they see.
struct Phase {
    y: usize,
    x: usize,
    /// In the order of dy's memory: largest ky and kx first.
    taps: Vec<(usize, usize)>,
    /// How many of them lie in a row.
    across: usize,
}

fn phases(g: &Geometry) -> Vec<Phase> {
    let taps = |phase: usize| -> Vec<usize> {
        let remainder = (phase + g.padding) % g.stride;
        (0..g.kernel)
            .rev()
            .filter(|k| k % g.stride == remainder)
            .collect()
    };
    let mut phases = Vec::new();
    for y in 0..g.stride {
        for x in 0..g.stride {
            let (down, across) = (taps(y), taps(x));
            let taps = down
                .iter()
                .flat_map(|ky| across.iter().map(move |kx| (*ky, *kx)));
            phases.push(Phase {
                y,
                x,
                taps: taps.collect(),
                across: across.len(),
            });
        }
    }
    phases
}

/// The first output position that reads position `i` of the input along one side; below 0 in front of the output.
fn first_reader(g: &Geometry, i: usize) -> isize {
    (i as isize + g.padding as isize - (g.kernel as isize - 1)).div_euclid(g.stride as isize)
}

/// The last such position.
fn last_reader(g: &Geometry, i: usize) -> isize {
    ((i + g.padding) / g.stride) as isize
}

pub(super) fn backward(
    conv: &Conv2d,
    saved: Saved<'_>,
    dx: &mut [f32],
    adds: bool,
    scratch: &mut Scratch,
) {
    let g = &conv.geometry;
    // A product of few columns wastes most of a tile: then all taps are columns, and added up afterwards.
    if g.channels < panels::width() && g.kernel > 1 {
        narrow(conv, saved, dx, adds, scratch);
        return;
    }
    if winograd::suits_data(conv) {
        winograd::data(conv, saved, dx, adds, scratch);
        return;
    }
    let batch = dx.len() / g.image();
    let parts = parts(batch * g.height);
    let phases = phases(g);
    let sizes: Vec<usize> = phases
        .iter()
        .map(|phase| panels::size(phase.taps.len() * conv.outputs, g.channels))
        .collect();
    let (lent, buffers) = scratch.lend_packed(parts.len(), sizes.iter().sum());
    let mut packed = lent.values;
    let mut of_phases: Vec<&[f32]> = Vec::new();
    for (phase, size) in phases.iter().zip(&sizes) {
        let (of_phase, rest) = packed.split_at_mut(*size);
        if *size > 0 && !lent.is_made {
            pack::by_channel(conv, saved.w, saved.scale, &phase.taps, of_phase);
        }
        of_phases.push(of_phase);
        packed = rest;
    }
    let line = g.width * g.channels;
    let dxs = shares(dx, &parts, line);
    parts
        .into_par_iter()
        .zip(dxs)
        .zip(buffers)
        .for_each(|((part, dx), buffer)| {
            let source = Source::new(conv, &saved);
            let begin = part.start;
            let wanted = (CHUNK * g.stride / source.pitch).min(CHUNK / line);
            let mut room = Room::default();
            for chunk in chunks(part, g.height, wanted) {
                let dx = &mut dx[(chunk.start - begin) * line..(chunk.end - begin) * line];
                source.read(pieces(chunk.clone(), g.height), buffer, &mut room.bases);
                let values = if source.in_place { saved.dy } else { &*buffer };
                for (phase, packed) in phases.iter().zip(&of_phases) {
                    source.product(&chunk, phase, values, packed, dx, adds, &mut room);
                }
            }
        });
}

/// Offsets, kept from chunk to chunk.
#[derive(Default)]
struct Room {
    bases: Vec<isize>,
    rows: Vec<usize>,
    c_rows: Vec<usize>,
}

/// Where the gradient of the output is read from.
struct Source<'a> {
    conv: &'a Conv2d,
    saved: &'a Saved<'a>,
    in_place: bool,
    /// The first column that is copied; below 0 in front of the output.
    left: isize,
    /// Values of a copied line.
    pitch: usize,
}

impl<'a> Source<'a> {
    fn new(conv: &'a Conv2d, saved: &'a Saved<'a>) -> Self {
        let g = &conv.geometry;
        let (left, right) = (first_reader(g, 0), last_reader(g, g.width - 1));
        let in_place = conv.then == Then::Nothing && g.kernel == 1 && g.padding == 0;
        let columns = if in_place {
            g.out_width()
        } else {
            (right - left + 1) as usize
        };
        Self {
            conv,
            saved,
            in_place,
            left: if in_place { 0 } else { left },
            pitch: columns * conv.outputs,
        }
    }

    /// The lines of dy that a piece of x reads: the first one, and how many.
    fn lines(&self, piece: Piece) -> (isize, usize) {
        let g = &self.conv.geometry;
        let first = first_reader(g, piece.first);
        let last = last_reader(g, piece.first + piece.count - 1);
        (first, (last - first + 1) as usize)
    }

    /// Copies what the pieces need; `bases` = where line 0 of each piece's image would lie.
    fn read(
        &self,
        of: impl Iterator<Item = Piece> + Clone,
        buffer: &mut Vec<f32>,
        bases: &mut Vec<isize>,
    ) {
        let g = &self.conv.geometry;
        bases.clear();
        if self.in_place {
            bases.extend(of.map(|piece| (piece.image * g.out_height() * self.pitch) as isize));
            return;
        }
        let size: usize = of
            .clone()
            .map(|piece| self.lines(piece).1 * self.pitch)
            .sum();
        let mut free = grown(buffer, size);
        let mut at = 0;
        for piece in of {
            let (first, count) = self.lines(piece);
            bases.push(at - first * self.pitch as isize);
            at += (count * self.pitch) as isize;
            let (own, rest) = std::mem::take(&mut free).split_at_mut(count * self.pitch);
            free = rest;
            for (line, own) in own.chunks_exact_mut(self.pitch).enumerate() {
                self.copy(piece.image, first + line as isize, own);
            }
        }
    }

    /// One line of dy with zeros where the output has no positions.
    fn copy(&self, image: usize, line: isize, own: &mut [f32]) {
        let (g, outputs) = (&self.conv.geometry, self.conv.outputs);
        if line < 0 || line >= g.out_height() as isize {
            own.fill(0.0);
            return;
        }
        let length = g.out_width() * outputs;
        let before = (-self.left).max(0) as usize * outputs;
        let n = own.len();
        own[..before.min(n)].fill(0.0);
        if self.left > 0 || before + length > own.len() {
            // Not all of the line is read: more padding than the kernel reaches, or a stride that leaves some out.
            let mut whole = vec![0.0; length];
            lines::gradient(self.conv, self.saved, image, line as usize, &mut whole);
            let skipped = self.left.max(0) as usize * outputs;
            let kept = (length - skipped.min(length)).min(n - before.min(n));
            if kept > 0 {
                own[before..before + kept].copy_from_slice(&whole[skipped..skipped + kept]);
                own[before + kept..].fill(0.0);
            } else {
                own.fill(0.0);
            }
            return;
        }
        lines::gradient(
            self.conv,
            self.saved,
            image,
            line as usize,
            &mut own[before..before + length],
        );
        own[before + length..].fill(0.0);
    }

    /// dx at the positions of one phase in a chunk of lines.
    #[expect(
        clippy::too_many_arguments,
        reason = "one chunk of each of the pass's slices"
    )]
    fn product(
        &self,
        chunk: &std::ops::Range<usize>,
        phase: &Phase,
        values: &[f32],
        packed: &[f32],
        dx: &mut [f32],
        adds: bool,
        room: &mut Room,
    ) {
        let (g, outputs) = (&self.conv.geometry, self.conv.outputs);
        let line = g.width * g.channels;
        let Room {
            bases,
            rows,
            c_rows,
        } = room;
        rows.clear();
        c_rows.clear();
        let tap = phase.taps.first().copied();
        let mut before = 0;
        for (piece, base) in pieces(chunk.clone(), g.height).zip(bases.iter()) {
            for at in 0..piece.count {
                let iy = piece.first + at;
                if iy % g.stride != phase.y {
                    continue;
                }
                let target = (before + at) * line;
                let columns = (phase.x..g.width).step_by(g.stride);
                c_rows.extend(columns.clone().map(|ix| target + ix * g.channels));
                if let Some((ky, kx)) = tap {
                    // The division is exact: taps of the phase have the right remainder.
                    let reader = |i: usize, k: usize| {
                        (i as isize + g.padding as isize - k as isize).div_euclid(g.stride as isize)
                    };
                    let source = base + reader(iy, ky) * self.pitch as isize;
                    rows.extend(columns.map(|ix| {
                        (source + (reader(ix, kx) - self.left) * outputs as isize) as usize
                    }));
                }
            }
            before += piece.count;
        }
        if tap.is_none() {
            if !adds {
                for row in c_rows.iter() {
                    dx[*row..row + g.channels].fill(0.0);
                }
            }
            return;
        }
        let row = |at: usize| Segment {
            offset: at * self.pitch,
            length: phase.across * outputs,
        };
        let segments: Vec<Segment> = (0..phase.taps.len() / phase.across).map(row).collect();
        let left = Left {
            values,
            rows,
            segments: &segments,
            step: 1,
        };
        let finish = Finish {
            add: if adds { Add::Itself } else { Add::Nothing },
            ..Finish::default()
        };
        product(left, packed, g.channels, dx, c_rows, finish);
    }
}

/// Inputs of few channels: what each position of y gives to each tap (a product), added up where the taps lie.
fn narrow(conv: &Conv2d, saved: Saved<'_>, dx: &mut [f32], adds: bool, scratch: &mut Scratch) {
    let g = &conv.geometry;
    let (depth, outputs) = (g.depth(), conv.outputs);
    let batch = dx.len() / g.image();
    let parts = parts(batch);
    let (packed, buffers) = scratch.lend_packed(parts.len(), panels::size(outputs, depth));
    if !packed.is_made {
        pack::by_weight(conv, saved.w, saved.scale, packed.values);
    }
    let packed = &*packed.values;
    let dxs = shares(dx, &parts, g.image());
    parts
        .into_par_iter()
        .zip(dxs)
        .zip(buffers)
        .for_each(|((part, dx), buffer)| {
            if !adds {
                dx.fill(0.0);
            }
            let begin = part.start * g.out_height();
            let end = part.end * g.out_height();
            let length = g.out_width() * outputs;
            let wanted = CHUNK / (g.out_width() * (outputs + depth));
            for chunk in chunks(begin..end, g.out_height(), wanted) {
                let positions = chunk.len() * g.out_width();
                let (dy, given) =
                    grown(buffer, positions * (outputs + depth)).split_at_mut(positions * outputs);
                let mut own = dy.chunks_exact_mut(length);
                for piece in pieces(chunk.clone(), g.out_height()) {
                    for (line, dy) in own.by_ref().take(piece.count).enumerate() {
                        lines::gradient(conv, &saved, piece.image, piece.first + line, dy);
                    }
                }
                let rows: Vec<usize> = (0..positions).map(|position| position * outputs).collect();
                let c_rows: Vec<usize> = (0..positions).map(|position| position * depth).collect();
                let segments = [Segment {
                    offset: 0,
                    length: outputs,
                }];
                let left = Left {
                    values: dy,
                    rows: &rows,
                    segments: &segments,
                    step: 1,
                };
                product(left, packed, depth, given, &c_rows, Finish::default());
                let mut given = given.chunks_exact(g.out_width() * depth);
                for piece in pieces(chunk, g.out_height()) {
                    let dx = &mut dx[(piece.image - part.start) * g.image()..][..g.image()];
                    for (line, given) in given.by_ref().take(piece.count).enumerate() {
                        gather(g, piece.first + line, given, dx);
                    }
                }
            }
        });
}

/// Adds one output line's gifts to the input's lines.
fn gather(g: &Geometry, oy: usize, given: &[f32], dx: &mut [f32]) {
    let (depth, across) = (g.depth(), g.kernel * g.channels);
    for ky in 0..g.kernel {
        let iy = (oy * g.stride + ky).wrapping_sub(g.padding);
        if iy >= g.height {
            continue;
        }
        let dx = &mut dx[iy * g.width * g.channels..][..g.width * g.channels];
        for kx in 0..g.kernel {
            // Positions whose tap lies within the line.
            let first = g.padding.saturating_sub(kx).div_ceil(g.stride);
            let end = (g.width + g.padding).saturating_sub(kx).div_ceil(g.stride);
            let end = end.min(g.out_width());
            if first >= end {
                continue;
            }
            let target = (first * g.stride + kx - g.padding) * g.channels;
            let given = &given[first * depth + ky * across + kx * g.channels..];
            let taps = given.chunks(depth).take(end - first);
            for (dx, given) in dx[target..].chunks_mut(g.stride * g.channels).zip(taps) {
                for (dx, given) in dx.iter_mut().zip(&given[..g.channels]) {
                    *dx += given;
                }
            }
        }
    }
}
