//! The passes over memory: rows as long as the tiles, masked on the way.

use super::{Line, Tiles};
use crate::nn::op::simd::{Vector, vectorized};

/// How a kernel masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    None,
    Input,
    Output,
}

/// `g` where `keep`, else 0: by bits, since with a branch the compiler would not use vectors.
#[expect(clippy::inline_always, reason = "part of a vectorized body")]
#[inline(always)]
fn chosen(keep: bool, g: f32) -> f32 {
    f32::from_bits(g.to_bits() & u32::from(keep).wrapping_neg())
}

vectorized! {
    /// Adds g and g (x - center), summed over rows as long as the tiles.
    pub(super) fn add_products<V>(
        x: &[f32],
        y: &[f32],
        mask: Mask,
        dy: &[f32],
        center: &[f32],
        tiles: &Tiles,
        sums: &mut [f32],
        products: &mut [f32],
    ) {
        match mask {
            Mask::None => sum_rows::<V>(x, x, dy, center, tiles, sums, products, |_, _, _, _, _| true),
            Mask::Input => sum_rows::<V>(x, x, dy, center, tiles, sums, products, |x, _, c, w, b| {
                V::fused(x - c, w, b) > 0.0
            }),
            Mask::Output => sum_rows::<V>(x, y, dy, center, tiles, sums, products, |_, y, _, _, _| y > 0.0),
        }
    }
}

#[expect(clippy::inline_always, reason = "part of a vectorized body")]
#[expect(
    clippy::too_many_arguments,
    reason = "a kernel reads and writes many slices"
)]
#[inline(always)]
fn sum_rows<V: Vector>(
    x: &[f32],
    y: &[f32],
    dy: &[f32],
    center: &[f32],
    tiles: &Tiles,
    sums: &mut [f32],
    products: &mut [f32],
    keep: impl Fn(f32, f32, f32, f32, f32) -> bool,
) {
    let n = center.len();
    let (sums, products) = (&mut sums[..n], &mut products[..n]);
    let (c, w, b) = (&tiles.center[..n], &tiles.scale[..n], &tiles.shift[..n]);
    let (xs, ys, dys) = (
        x.chunks_exact(4 * n),
        y.chunks_exact(4 * n),
        dy.chunks_exact(4 * n),
    );
    let rest = xs.remainder().chunks(n).zip(ys.remainder().chunks(n));
    for ((x, y), dy) in rest.zip(dys.remainder().chunks(n)) {
        let n = x.len();
        let (y, dy, center) = (&y[..n], &dy[..n], &center[..n]);
        let (c, w, b) = (&c[..n], &w[..n], &b[..n]);
        let (sums, products) = (&mut sums[..n], &mut products[..n]);
        for i in 0..n {
            let g = chosen(keep(x[i], y[i], c[i], w[i], b[i]), dy[i]);
            sums[i] += g;
            products[i] = V::fused(g, x[i] - center[i], products[i]);
        }
    }
    for ((x, y), dy) in xs.zip(ys).zip(dys) {
        let (x0, x1, x2, x3) = (&x[..n], &x[n..2 * n], &x[2 * n..3 * n], &x[3 * n..4 * n]);
        let (y0, y1, y2, y3) = (&y[..n], &y[n..2 * n], &y[2 * n..3 * n], &y[3 * n..4 * n]);
        let (g0, g1, g2, g3) = (
            &dy[..n],
            &dy[n..2 * n],
            &dy[2 * n..3 * n],
            &dy[3 * n..4 * n],
        );
        for i in 0..n {
            let g = |x: f32, y: f32, dy: f32| chosen(keep(x, y, c[i], w[i], b[i]), dy);
            let (g0, g1) = (g(x0[i], y0[i], g0[i]), g(x1[i], y1[i], g1[i]));
            let (g2, g3) = (g(x2[i], y2[i], g2[i]), g(x3[i], y3[i], g3[i]));
            sums[i] += (g0 + g1) + (g2 + g3);
            let k = center[i];
            products[i] += V::fused(g0, x0[i] - k, g1 * (x1[i] - k))
                + V::fused(g2, x2[i] - k, g3 * (x3[i] - k));
        }
    }
}

vectorized! {
    /// g = dy behind the mask.
    pub(super) fn mask_into<V>(x: &[f32], y: &[f32], mask: Mask, dy: &[f32], tiles: &Tiles, g: &mut [f32]) {
        match mask {
            Mask::None => g.copy_from_slice(dy),
            Mask::Input => {
                let n = tiles.center.len();
                for ((x, dy), g) in x.chunks(n).zip(dy.chunks(n)).zip(g.chunks_mut(n)) {
                    let n = g.len();
                    let (x, dy) = (&x[..n], &dy[..n]);
                    let (c, w, b) = (&tiles.center[..n], &tiles.scale[..n], &tiles.shift[..n]);
                    for i in 0..n {
                        g[i] = chosen(V::fused(x[i] - c[i], w[i], b[i]) > 0.0, dy[i]);
                    }
                }
            }
            Mask::Output => {
                for ((y, dy), g) in y.iter().zip(dy).zip(g) {
                    *g = chosen(*y > 0.0, *dy);
                }
            }
        }
    }
}

/// Defines a kernel that writes dx: what differs is only where dy is read.
macro_rules! follow {
    ($(#[$meta:meta])* $name:ident, ($($dy:ident)?), |$dx:ident, $i:ident| $read:expr) => {
        vectorized! {
            $(#[$meta])*
            pub(super) fn $name<V>(line: &Line, x: &[f32], y: &[f32], mask: Mask, $($dy: &[f32],)? dx: &mut [f32]) {
                let tiles = &line.tiles;
                let n = tiles.center.len();
                $(let mut dys = $dy.chunks(n);)?
                for ((x, y), $dx) in x.chunks(n).zip(y.chunks(n)).zip(dx.chunks_mut(n)) {
                    let n = $dx.len();
                    $(let Some($dy) = dys.next() else { return };
                    let $dy = &$dy[..n];)?
                    let (x, y) = (&x[..n], &y[..n]);
                    let (c, w, b) = (&tiles.center[..n], &tiles.scale[..n], &tiles.shift[..n]);
                    match &line.correction {
                        Some((offset, slope)) => {
                            let (offset, slope) = (&offset[..n], &slope[..n]);
                            let value = |i: usize, g: f32| {
                                V::fused(w[i], g, V::fused(c[i] - x[i], slope[i], offset[i]))
                            };
                            match mask {
                                Mask::None => for $i in 0..n {
                                    $dx[$i] = value($i, $read);
                                },
                                Mask::Input => for $i in 0..n {
                                    let keep = V::fused(x[$i] - c[$i], w[$i], b[$i]) > 0.0;
                                    $dx[$i] = value($i, chosen(keep, $read));
                                },
                                Mask::Output => for $i in 0..n {
                                    $dx[$i] = value($i, chosen(y[$i] > 0.0, $read));
                                },
                            }
                        }
                        None => match mask {
                            Mask::None => for $i in 0..n {
                                $dx[$i] = w[$i] * $read;
                            },
                            Mask::Input => for $i in 0..n {
                                let keep = V::fused(x[$i] - c[$i], w[$i], b[$i]) > 0.0;
                                $dx[$i] = w[$i] * chosen(keep, $read);
                            },
                            Mask::Output => for $i in 0..n {
                                $dx[$i] = w[$i] * chosen(y[$i] > 0.0, $read);
                            },
                        },
                    }
                }
            }
        }
    };
}

follow!(
    /// dx from dy.
    follow, (dy), |dx, i| dy[i]
);
follow!(
    /// dx in the place of dy.
    follow_in_place, (), |dx, i| dx[i]
);
