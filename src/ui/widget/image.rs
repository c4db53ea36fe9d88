//! An image in half-blocks: two pixels to a cell, in the colors that every terminal of 256 colors has.
//!
//! A cell is about twice as high as wide, so `▀` with one color above and one below is two square pixels. Without color a
//! cell is a character as dark as both pixels together. What is larger than its place is reduced by the mean over areas.

use ratatui::style::{Color, Style};

use super::super::pen::Pen;
use super::super::theme::Theme;

/// Pixels, channel by channel, from 0 to 255.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    width: usize,
    height: usize,
    /// 1 for grey or 3 for color.
    channels: usize,
    pixels: Vec<f32>,
}

impl Image {
    /// Channels, height, width and the bytes; nothing where they do not fit together.
    pub fn new(shape: [u32; 3], bytes: &[u8]) -> Option<Self> {
        let [channels, height, width] = shape.map(|side| side as usize);
        let count = channels.checked_mul(height)?.checked_mul(width)?;
        let is_image = matches!(channels, 1 | 3) && count > 0 && count == bytes.len();
        is_image.then(|| Self {
            width,
            height,
            channels,
            pixels: bytes.iter().map(|byte| f32::from(*byte)).collect(),
        })
    }

    /// What another image has more, so many times as much, around the middle grey; and how many times. The factor is the
    /// largest power of two by which no more than one value in twenty is cut off, 32 at most.
    pub fn difference(&self, other: &Self) -> Option<(Self, u32)> {
        const MIDDLE: f32 = 128.0;
        const MOST: u32 = 32;
        if (self.width, self.height, self.channels) != (other.width, other.height, other.channels) {
            return None;
        }
        let apart: Vec<f32> = other
            .pixels
            .iter()
            .zip(&self.pixels)
            .map(|(to, from)| to - from)
            .collect();
        let mut sizes: Vec<f32> = apart.iter().map(|d| d.abs()).collect();
        sizes.sort_by(f32::total_cmp);
        let usual = (sizes.len() * 19).div_ceil(20).max(1) - 1;
        let most = sizes.get(usual).copied().unwrap_or(0.0);
        let mut factor = 1;
        while factor < MOST && most * (factor * 2) as f32 <= MIDDLE - 1.0 {
            factor *= 2;
        }
        let pixels = apart
            .iter()
            .map(|d| (MIDDLE + d * factor as f32).clamp(0.0, 255.0))
            .collect();
        let image = Self {
            pixels,
            ..self.clone()
        };
        Some((image, factor))
    }

    /// Cells that the image takes where there is room for so many, at one pixel to a column or fewer columns; small images
    /// are shown at a whole multiple.
    pub fn cells(&self, across: u16, down: u16) -> (u16, u16) {
        let (across, down) = (usize::from(across).max(1), usize::from(down).max(1) * 2);
        let times = (across / self.width).min(down / self.height);
        let (width, height) = if times >= 1 {
            (self.width * times, self.height * times)
        } else {
            let share = (across as f64 / self.width as f64).min(down as f64 / self.height as f64);
            let side = |pixels: usize| ((pixels as f64 * share).floor() as usize).max(1);
            (side(self.width), side(self.height))
        };
        (width as u16, height.div_ceil(2) as u16)
    }

    /// The mean over the part of the image that lies under a pixel of a smaller or larger one, as red, green and blue.
    fn under(&self, x: usize, y: usize, size: (usize, usize)) -> [u8; 3] {
        let span = |at: usize, pixels: usize, of: usize| {
            let scale = pixels as f64 / of as f64;
            (at as f64 * scale, (at + 1) as f64 * scale)
        };
        let (left, right) = span(x, self.width, size.0);
        let (top, bottom) = span(y, self.height, size.1);
        let parts = |from: f64, to: f64, end: usize| {
            let first = (from.floor() as usize).min(end - 1);
            let last = (to.ceil() as usize).clamp(first + 1, end);
            (first..last).map(move |at| {
                let weight = to.min((at + 1) as f64) - from.max(at as f64);
                (at, weight.max(0.0))
            })
        };
        let mean = |channel: usize| -> u8 {
            let (mut sum, mut all) = (0.0, 0.0);
            for (row, high) in parts(top, bottom, self.height) {
                for (column, wide) in parts(left, right, self.width) {
                    let at = (channel * self.height + row) * self.width + column;
                    sum += f64::from(self.pixels[at]) * high * wide;
                    all += high * wide;
                }
            }
            if all > 0.0 {
                (sum / all).round() as u8
            } else {
                0
            }
        };
        if self.channels == 3 {
            [mean(0), mean(1), mean(2)]
        } else {
            [mean(0); 3]
        }
    }

    /// Draws the image from the top left and returns how many cells it took.
    pub fn draw(&self, pen: &mut Pen<'_>, theme: Theme) -> (u16, u16) {
        if pen.is_empty() {
            return (0, 0);
        }
        let (across, down) = self.cells(pen.width(), pen.height());
        // An odd last line is half a cell.
        let lines = if self.height % 2 == 1 && usize::from(down) * 2 == self.height + 1 {
            self.height
        } else {
            usize::from(down) * 2
        };
        let size = (usize::from(across), lines);
        for y in 0..down {
            for x in 0..across {
                let above = self.under(usize::from(x), usize::from(y) * 2, size);
                let line = usize::from(y) * 2 + 1;
                let below = (line < lines).then(|| self.under(usize::from(x), line, size));
                let (symbol, style) = half_block(above, below, theme);
                pen.cell(x, y, symbol, style);
            }
        }
        (across, down)
    }
}

/// A cell of two pixels, or of one in its upper half.
pub fn half_block(above: [u8; 3], below: Option<[u8; 3]>, theme: Theme) -> (char, Style) {
    /// From dark to bright, as on a dark terminal.
    const RAMP: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];
    if theme.is_mono() {
        let light = |[r, g, b]: [u8; 3]| {
            // Rec. 601 luma.
            0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b)
        };
        let mean = f64::midpoint(light(above), below.map_or(0.0, light));
        let place = (mean / 255.0 * (RAMP.len() - 1) as f64).round() as usize;
        return (RAMP[place.min(RAMP.len() - 1)], Style::new());
    }
    let style = Style::new().fg(Color::Indexed(palette(above)));
    match below {
        Some(below) => ('▀', style.bg(Color::Indexed(palette(below)))),
        None => ('▀', style),
    }
}

/// The nearest of the 256 colors that look the same in every terminal: the cube of six levels, and the ramp of greys.
pub fn palette([r, g, b]: [u8; 3]) -> u8 {
    /// The levels of xterm's cube.
    const LEVELS: [i32; 6] = [0, 95, 135, 175, 215, 255];
    let nearest = |value: u8| {
        let value = i32::from(value);
        (0..6)
            .min_by_key(|at| (LEVELS[*at] - value).abs())
            .unwrap_or(0)
    };
    let apart = |to: [i32; 3]| {
        let of = [r, g, b].map(i32::from);
        (0..3).map(|c| (of[c] - to[c]).pow(2)).sum::<i32>()
    };
    let cube = [nearest(r), nearest(g), nearest(b)];
    let in_cube = 16 + 36 * cube[0] + 6 * cube[1] + cube[2];
    // Greys are 8, 18, … 238.
    let mean = (i32::from(r) + i32::from(g) + i32::from(b)) / 3;
    let step = ((mean - 8 + 5).max(0) / 10).min(23);
    let grey = 8 + 10 * step;
    if apart([grey; 3]) < apart(cube.map(|at| LEVELS[at])) {
        (232 + step) as u8
    } else {
        in_cube as u8
    }
}

#[cfg(test)]
mod tests {
    use ratatui::buffer::Buffer;
    use ratatui::layout::Rect;

    use super::*;

    fn drawn(image: &Image, width: u16, height: u16, mono: bool) -> (Buffer, (u16, u16)) {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        let area = buffer.area;
        let size = image.draw(&mut Pen::new(area, &mut buffer), Theme::new(mono));
        (buffer, size)
    }

    #[test]
    fn two_pixels_are_one_cell_in_their_colors() {
        // Red above blue, black above white.
        let bytes = [255, 0, 0, 255, 0, 0, 0, 255, 0, 0, 255, 255];
        let image = Image::new([3, 2, 2], &bytes).unwrap();
        let (buffer, size) = drawn(&image, 2, 1, false);
        assert_eq!(size, (2, 1));
        let left = &buffer[(0, 0)];
        assert_eq!(
            (left.symbol(), left.fg, left.bg),
            ("▀", Color::Indexed(196), Color::Indexed(21))
        );
        let right = &buffer[(1, 0)];
        assert_eq!(
            (right.fg, right.bg),
            (Color::Indexed(16), Color::Indexed(231))
        );
    }

    #[test]
    fn greys_are_of_the_ramp_and_colors_of_the_cube() {
        assert_eq!(palette([8, 8, 8]), 232);
        assert_eq!(palette([128, 128, 128]), 244);
        assert_eq!(palette([238, 238, 238]), 255);
        assert_eq!(palette([255, 255, 255]), 231);
        assert_eq!(palette([255, 135, 0]), 208);
    }

    #[test]
    fn a_large_image_is_reduced_by_the_mean_of_areas() {
        let mut bytes = vec![0_u8; 16];
        // The upper left quarter is half white, half black: grey.
        (bytes[0], bytes[1]) = (255, 255);
        let image = Image::new([1, 4, 4], &bytes).unwrap();
        let (buffer, size) = drawn(&image, 2, 1, false);
        assert_eq!(size, (2, 1));
        assert_eq!(buffer[(0, 0)].fg, Color::Indexed(palette([128; 3])));
        assert_eq!(buffer[(0, 0)].bg, Color::Indexed(16));
        let (_, size) = drawn(&image, 9, 5, false);
        assert_eq!(size, (8, 4), "a whole multiple");
    }

    #[test]
    fn without_color_brightness_is_a_character() {
        let image = Image::new([1, 2, 3], &[0, 255, 255, 0, 0, 255]).unwrap();
        let (buffer, _) = drawn(&image, 3, 1, true);
        let symbols: String = buffer
            .content
            .iter()
            .map(ratatui::buffer::Cell::symbol)
            .collect();
        assert_eq!(symbols, " +@");
        assert!(buffer.content.iter().all(|cell| cell.bg == Color::Reset));
    }

    #[test]
    fn a_difference_is_as_large_as_it_may_be_and_says_so() {
        let of = |bytes: &[u8]| Image::new([1, 1, 3], bytes).unwrap();
        let (difference, factor) = of(&[100, 100, 100])
            .difference(&of(&[100, 115, 90]))
            .unwrap();
        assert_eq!(factor, 8);
        assert_eq!(difference, of(&[128, 248, 48]));
        let (same, factor) = of(&[1, 2, 3]).difference(&of(&[1, 2, 3])).unwrap();
        assert_eq!((same, factor), (of(&[128; 3]), 32));
        let (_, factor) = of(&[0, 0, 0]).difference(&of(&[255, 0, 0])).unwrap();
        assert_eq!(factor, 1);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert_eq!(Image::new([1, 2, 2], &[0; 3]), None);
        assert_eq!(Image::new([2, 1, 1], &[0; 2]), None);
        assert_eq!(Image::new([1, 0, 4], &[]), None);
        assert_eq!(Image::new([u32::MAX; 3], &[0]), None);
    }
}
