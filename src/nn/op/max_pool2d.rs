pub const LARGEST_KERNEL: usize = 16;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    pub height: usize,
    pub width: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}
impl Windows {
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }
    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }
    pub fn count(&self) -> usize {
        self.out_height() * self.out_width()
    }
    /// Whether no window overlaps another or the padding.
    pub fn are_apart(&self) -> bool {
        self.padding == 0 && self.stride >= self.kernel
    }
}
pub fn forward(w: &Windows, c: usize, x: &[f32], y: &mut [f32], place: &mut [u8]) {
    let (oh, ow) = (w.out_height(), w.out_width());
    for (b, x) in x.chunks_exact(w.height * w.width * c).enumerate() {
        for oy in 0..oh {
            for ox in 0..ow {
                for ch in 0..c {
                    let at = ((b * oh + oy) * ow + ox) * c + ch;
                    let mut best = f32::NEG_INFINITY;
                    let mut p = 0u8;
                    let mut first = true;
                    for ky in 0..w.kernel {
                        for kx in 0..w.kernel {
                            let (iy, ix) = (
                                (oy * w.stride + ky).wrapping_sub(w.padding),
                                (ox * w.stride + kx).wrapping_sub(w.padding),
                            );
                            if iy >= w.height || ix >= w.width {
                                continue;
                            }
                            let v = x[(iy * w.width + ix) * c + ch];
                            if first || v > best || v.is_nan() {
                                best = v;
                                p = (ky * w.kernel + kx) as u8;
                                first = false;
                            }
                        }
                    }
                    y[at] = best;
                    place[at] = p;
                }
            }
        }
    }
}
pub fn backward(w: &Windows, c: usize, place: &[u8], dy: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    let (oh, ow) = (w.out_height(), w.out_width());
    for (b, dx) in dx.chunks_exact_mut(w.height * w.width * c).enumerate() {
        for oy in 0..oh {
            for ox in 0..ow {
                for ch in 0..c {
                    let at = ((b * oh + oy) * ow + ox) * c + ch;
                    let p = place[at] as usize;
                    dx[((oy * w.stride + p / w.kernel - w.padding) * w.width
                        + ox * w.stride
                        + p % w.kernel
                        - w.padding)
                        * c
                        + ch] += dy[at];
                }
            }
        }
    }
}
