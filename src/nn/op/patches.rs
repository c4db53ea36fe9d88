//! Patches of an image as columns of a matrix (im2col), and back (col2im).
//!
//! An image is (C, H, W); its columns are (C·k·k, OH·OW), where column p holds what the kernel sees at output position p.
//! Padding reads as 0.

/// The shape of a convolution over one image, with a square kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Geometry {
    /// How many values an image has.
    pub fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Rows of the columns' matrix: C·k·k.
    pub fn rows(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Output positions: OH·OW.
    pub fn positions(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Whether the columns are the image itself: a 1x1 kernel on every pixel.
    pub fn is_identity(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    /// The outputs along one axis whose input lies inside the image, for an offset inside the kernel.
    fn inside(&self, offset: usize, extent: usize, outputs: usize) -> (usize, usize) {
        let first = self
            .padding
            .saturating_sub(offset)
            .div_ceil(self.stride)
            .min(outputs);
        // o·s + offset - p < extent
        let end = (extent + self.padding)
            .saturating_sub(offset)
            .div_ceil(self.stride)
            .min(outputs);
        (first, end.max(first))
    }
}

/// Writes the columns of an image; `rows` picks rows of the matrix (all, or a share of the channels).
pub fn gather(
    geometry: &Geometry,
    image: &[f32],
    rows: std::ops::Range<usize>,
    columns: &mut [f32],
) {
    let g = geometry;
    let (outputs_y, outputs_x, positions) = (g.out_height(), g.out_width(), g.positions());
    for (row, column) in rows.zip(columns.chunks_exact_mut(positions)) {
        let (channel, ky, kx) = split(g, row);
        let plane = &image[channel * g.height * g.width..][..g.height * g.width];
        let (first_y, end_y) = g.inside(ky, g.height, outputs_y);
        let (first_x, end_x) = g.inside(kx, g.width, outputs_x);
        column[..first_y * outputs_x].fill(0.0);
        column[end_y * outputs_x..].fill(0.0);
        for oy in first_y..end_y {
            let source = &plane[(oy * g.stride + ky - g.padding) * g.width..][..g.width];
            let target = &mut column[oy * outputs_x..][..outputs_x];
            target[..first_x].fill(0.0);
            target[end_x..].fill(0.0);
            if first_x == end_x {
                continue;
            }
            let start = first_x * g.stride + kx - g.padding;
            let target = &mut target[first_x..end_x];
            if g.stride == 1 {
                target.copy_from_slice(&source[start..start + target.len()]);
            } else {
                for (t, s) in target
                    .iter_mut()
                    .zip(source[start..].iter().step_by(g.stride))
                {
                    *t = *s;
                }
            }
        }
    }
}

/// Adds columns onto an image: the transpose of [`gather`]. `image` holds the channels that `rows` belong to.
pub fn scatter(
    geometry: &Geometry,
    columns: &[f32],
    rows: std::ops::Range<usize>,
    image: &mut [f32],
) {
    let g = geometry;
    let (outputs_y, outputs_x, positions) = (g.out_height(), g.out_width(), g.positions());
    let first_channel = split(g, rows.start).0;
    for (row, column) in rows.zip(columns.chunks_exact(positions)) {
        let (channel, ky, kx) = split(g, row);
        let plane =
            &mut image[(channel - first_channel) * g.height * g.width..][..g.height * g.width];
        let (first_y, end_y) = g.inside(ky, g.height, outputs_y);
        let (first_x, end_x) = g.inside(kx, g.width, outputs_x);
        if first_x == end_x {
            continue;
        }
        let start = first_x * g.stride + kx - g.padding;
        for oy in first_y..end_y {
            let target = &mut plane[(oy * g.stride + ky - g.padding) * g.width..][..g.width];
            let source = &column[oy * outputs_x..][first_x..end_x];
            if g.stride == 1 {
                for (t, s) in target[start..start + source.len()].iter_mut().zip(source) {
                    *t += *s;
                }
            } else {
                for (t, s) in target[start..].iter_mut().step_by(g.stride).zip(source) {
                    *t += *s;
                }
            }
        }
    }
}

/// Channel, kernel row and kernel column of a row of the matrix.
fn split(g: &Geometry, row: usize) -> (usize, usize, usize) {
    let kernel = g.kernel;
    (row / (kernel * kernel), row / kernel % kernel, row % kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_by_hand() {
        // 1 2 3      kernel 2, stride 1: the columns' first row is the top left value of each patch.
        // 4 5 6
        // 7 8 9
        let g = Geometry {
            channels: 1,
            height: 3,
            width: 3,
            kernel: 2,
            stride: 1,
            padding: 0,
        };
        let image: Vec<f32> = (1..=9).map(|v| v as f32).collect();
        let mut columns = vec![0.0; 16];
        gather(&g, &image, 0..4, &mut columns);
        assert_eq!(columns[..4], [1.0, 2.0, 4.0, 5.0]);
        assert_eq!(columns[12..], [5.0, 6.0, 8.0, 9.0]);
        // Each value goes back as often as a patch holds it.
        let mut back = vec![0.0; 9];
        scatter(&g, &columns, 0..4, &mut back);
        assert_eq!(back, [1.0, 4.0, 3.0, 8.0, 20.0, 12.0, 7.0, 16.0, 9.0]);
    }

    #[test]
    fn padding_reads_as_zero_also_when_a_kernel_reaches_beyond_both_sides() {
        // 1x1 image, kernel 5, padding 2: only the middle sees it.
        let g = Geometry {
            channels: 1,
            height: 1,
            width: 1,
            kernel: 5,
            stride: 2,
            padding: 2,
        };
        let mut columns = vec![f32::NAN; 25];
        gather(&g, &[7.0], 0..25, &mut columns);
        assert_eq!(columns.iter().sum::<f32>(), 7.0);
        assert_eq!(columns[12], 7.0);
    }
}
