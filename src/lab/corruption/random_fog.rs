//! Random fog: white disks, one over the other.
//!
//! Disks of width h = ⌊f ⌊W/3⌋⌋ in rings that widen from the middle, ⌊h/10⌋ k of them in ring k, each blended in with weight
//! α f; then a box blur of ⌊h/10⌋ pixels.
//! Buslaev et al. 2020, Albumentations' `RandomFog`, version 1.3.0.
//! Bytes in, bytes out; any number of channels, any size.
//!
//! Variant `published`: f ~ U(0.3, 1) once per image, α = 0.08, as in document 000. At 28 and at 32 pixels h is at most 9, so
//! no disk is drawn and the blur is over one pixel: nothing changes at all, which is what document 000 measured.
//! Variant `corrected`: the disks of an image of 224 pixels, for which the transform draws some, scaled to the image, with f
//! and their weight by severity, edges smoothed, no blur, rounded.
//!
//! Deviation: drawn from our seeded stream, not Python's, and applied to every image, not every second. Albumentations refuses
//! gray images; here they are the color images of equal channels that they stand for.

use super::variant::{KNOBS, PUBLISHED};
use super::{Corruption, ONCE, Severity, rounded};
use crate::catalog::{Entry, Info, text};
use crate::lab::corruption::kernel::mirrored;
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("random-fog"),
        title: text("Random fog"),
        summary: text(
            "Blends white disks into the image. As published it changes nothing on images of 28 or 32 pixels.",
        ),
        reference: text("doi:10.3390/info11020125"),
        family: text("weather"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| match setting.choice("variant") {
        PUBLISHED => Box::new(Published),
        _ => Box::new(Corrected),
    },
};

/// The disks that the transform draws on an image of that size: the upper left corner of each one's square. `draw` gives a
/// whole number between two, both included.
pub(super) fn disks(
    height: usize,
    width: usize,
    density: f64,
    draw: &mut dyn FnMut(i64, i64) -> i64,
) -> Vec<[i64; 2]> {
    let (h, w) = (height as i64, width as i64);
    let side = ((width / 3) as f64 * density).max(1.0) as i64;
    let mut found = Vec::new();
    if side < 10 {
        // Not one disk in any ring.
        return found;
    }
    let mut x = w / 2 - 2 * side;
    let mut y = h / 2 - side;
    let mut ring = 1;
    while x > -side || y > -side {
        for _ in 0..side / 10 * ring {
            found.push([draw(x, w - x - side), draw(y, h - y - side)]);
        }
        // Of an image much longer than wide, one of them would stand still for ever.
        x -= (3 * side * w / (w + h)).max(1);
        y -= (3 * side * h / (w + h)).max(1);
        ring += 1;
    }
    found
}

/// As document 000 measured it.
struct Published;

/// Document 000, section 4: `fog_coef_lower`, `fog_coef_upper`, `alpha_coef`.
const DENSITY: [f64; 2] = [0.3, 1.0];
const OPACITY: f64 = 0.08;

impl Corruption for Published {
    fn severities(&self) -> &'static [Option<Severity>] {
        &ONCE
    }

    fn corrupt(&self, image: &mut [u8], shape: ImageShape, _: Severity, rng: &mut Rng) {
        let density = rng.between(DENSITY[0], DENSITY[1]);
        let disks = disks(shape.height, shape.width, density, &mut |low, high| {
            low + rng.below((high - low + 1).max(1) as usize) as i64
        });
        fogged(image, shape, density, &disks);
    }
}

/// With given disks.
pub(super) fn fogged(image: &mut [u8], shape: ImageShape, density: f64, disks: &[[i64; 2]]) {
    let (height, width) = (shape.height, shape.width);
    let side = (((width / 3) as f64 * density) as i64).max(10);
    let weight = OPACITY * density;
    for [x, y] in disks {
        let half = side / 2;
        for (row, first, last) in spans(x + half, y + half, half) {
            if !(0..height as i64).contains(&row) || last < 0 || first >= width as i64 {
                continue;
            }
            let (first, last) = (first.max(0) as usize, last.min(width as i64 - 1) as usize);
            for channel in image.chunks_exact_mut(height * width) {
                let start = row as usize * width;
                for value in &mut channel[start + first..=start + last] {
                    let blended = 255.0 * weight + f64::from(*value) * (1.0 - weight);
                    *value = blended.round_ties_even() as u8;
                }
            }
        }
    }
    let box_side = (side / 10) as usize;
    if box_side > 1 {
        for channel in image.chunks_exact_mut(height * width) {
            box_blur(channel, height, width, box_side);
        }
    }
}

/// The rows of a filled disk, each with its first and last column: the midpoint algorithm as OpenCV's `circle` runs it.
fn spans(x: i64, y: i64, radius: i64) -> Vec<(i64, i64, i64)> {
    let mut rows = std::collections::BTreeMap::new();
    let mut add = |row: i64, reach: i64| {
        let widest = rows.entry(row).or_insert(reach);
        *widest = reach.max(*widest);
    };
    let (mut dx, mut dy) = (radius, 0);
    let (mut error, mut plus, mut minus) = (0, 1, 2 * radius - 1);
    while dx >= dy {
        for (row, reach) in [(y - dy, dx), (y + dy, dx), (y - dx, dy), (y + dx, dy)] {
            add(row, reach);
        }
        dy += 1;
        error += plus;
        plus += 2;
        if error > 0 {
            error -= minus;
            dx -= 1;
            minus -= 2;
        }
    }
    rows.into_iter()
        .map(|(row, reach)| (row, x - reach, x + reach))
        .collect()
}

/// The mean over a square, mirrored at the edges, rounded with halves up: OpenCV's `blur`.
fn box_blur(channel: &mut [u8], height: usize, width: usize, side: usize) {
    let before = channel.to_vec();
    let reach = (side / 2) as isize;
    for y in 0..height as isize {
        for x in 0..width as isize {
            let mut sum = 0_u32;
            for dy in -reach..side as isize - reach {
                for dx in -reach..side as isize - reach {
                    let place = mirrored(y + dy, height) * width + mirrored(x + dx, width);
                    sum += u32::from(before[place]);
                }
            }
            let area = (side * side) as u32;
            channel[y as usize * width + x as usize] = ((sum + area / 2) / area) as u8;
        }
    }
}

struct Corrected;

/// Density of the disks and their weight at severity 1 to 5: the document's range of densities, and weights of ours that let
/// five severities tell themselves apart.
const DENSITY_AND_WEIGHT: [(f64, f64); 5] = [
    (0.3, 0.25),
    (0.5, 0.3),
    (0.7, 0.35),
    (0.85, 0.4),
    (1.0, 0.45),
];

/// The side of the image whose disks are taken: the usual one of the networks for which the transform was written.
const CANVAS: usize = 224;

impl Corruption for Corrected {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng) {
        let (density, weight) = DENSITY_AND_WEIGHT[severity.index()];
        let (height, width) = (shape.height, shape.width);
        let drawn = disks(CANVAS, CANVAS, density, &mut |low, high| {
            low + rng.below((high - low + 1) as usize) as i64
        });
        let diameter = ((CANVAS / 3) as f64 * density).floor();
        let scale = [height, width].map(|size| size as f64 / CANVAS as f64);
        let radius = diameter / 2.0 * scale[0].min(scale[1]);
        let mut clear = vec![1.0; height * width];
        for [x, y] in drawn {
            let center_y = (y as f64 + diameter / 2.0) * scale[0];
            let center_x = (x as f64 + diameter / 2.0) * scale[1];
            // The pixels whose middle lies within half a pixel of the disk.
            let span = |center: f64, size: usize| {
                let first = (center - radius - 1.0).max(0.0) as usize;
                let end = (center + radius + 1.0).max(0.0) as usize;
                first.min(size)..end.min(size)
            };
            for row in span(center_y, height) {
                let dy = row as f64 + 0.5 - center_y;
                for column in span(center_x, width) {
                    let dx = column as f64 + 0.5 - center_x;
                    // How much of the pixel lies in the disk, were its edge straight there.
                    let inside = (radius - (dy * dy + dx * dx).sqrt() + 0.5).clamp(0.0, 1.0);
                    clear[row * width + column] *= 1.0 - weight * inside;
                }
            }
        }
        for channel in image.chunks_exact_mut(height * width) {
            for (value, clear) in channel.iter_mut().zip(&clear) {
                *value = rounded(255.0 + (f64::from(*value) - 255.0) * clear);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(side: usize, density: f64) -> usize {
        disks(side, side, density, &mut |low, _| low).len()
    }

    #[test]
    fn as_published_it_does_nothing_at_32_pixels() {
        // O-47.
        for side in [28, 32] {
            let shape = ImageShape {
                channels: 3,
                height: side,
                width: side,
            };
            let before: Vec<u8> = (0..shape.values()).map(|i| (i * 7 % 256) as u8).collect();
            for number in 0..200 {
                let mut image = before.clone();
                let mut rng = Rng::stream(2, "random-fog:published", &[0, number]);
                Published.corrupt(&mut image, shape, Severity::ALL[4], &mut rng);
                assert_eq!(image, before);
            }
            assert_eq!(count(side, 0.999), 0);
        }
    }

    #[test]
    fn larger_images_see_disks() {
        // O-47: 18 disks of 37 pixels at 224 and density 0.5, and a blur over 3.
        assert_eq!(count(224, 0.5), 18);
        assert_eq!((224 / 3) as f64 * 0.5, 37.0);
    }
}
