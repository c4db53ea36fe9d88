//! The shape of a convolution over one image, and stretches of its lines.

use std::ops::Range;

/// Channels, height and width that come in; a square kernel, its stride, zeros on every side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Geometry {
    /// A fully connected layer as a convolution: images of one pixel.
    pub fn pixel(channels: usize) -> Self {
        Self {
            channels,
            height: 1,
            width: 1,
            kernel: 1,
            stride: 1,
            padding: 0,
        }
    }

    /// How many values an image has.
    pub fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// How many values one sum is over: C·k·k.
    pub fn depth(&self) -> usize {
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
}

/// Lines of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) image: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

/// The pieces of a range of lines, counted through all images of `lines` each.
pub(super) fn pieces(range: Range<usize>, lines: usize) -> impl Iterator<Item = Piece> + Clone {
    let mut at = range.start;
    std::iter::from_fn(move || {
        (at < range.end).then(|| {
            let (image, first) = (at / lines, at % lines);
            let count = (lines - first).min(range.end - at);
            at += count;
            Piece {
                image,
                first,
                count,
            }
        })
    })
}

/// A range of lines cut into chunks of about `wanted` lines: evenly inside an image, or whole images together.
pub(super) fn chunks(
    range: Range<usize>,
    lines: usize,
    wanted: usize,
) -> impl Iterator<Item = Range<usize>> {
    let each = if wanted >= lines {
        wanted / lines * lines
    } else {
        lines.div_ceil(lines.div_ceil(wanted.max(1)))
    };
    let mut at = range.start;
    std::iter::from_fn(move || {
        (at < range.end).then(|| {
            // Chunks end where an image does, so that all but the first are alike.
            let next = if each >= lines {
                (at / lines * lines + each).min(range.end)
            } else {
                (at + each).min((at / lines + 1) * lines).min(range.end)
            };
            let chunk = at..next;
            at = next;
            chunk
        })
    })
}
