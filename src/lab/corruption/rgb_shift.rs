//! RGB shift: a wrong white balance.
//!
//! x' = clip(x + u, 0, 255) in grey levels with u ~ U(-a, a) for each channel of each image.
//! Buslaev et al. 2020, Albumentations' `RGBShift`.
//! Bytes in, bytes out; images with three channels as RGB only, any size. A study asks for it with three channels only, and
//! another image would stay as it is.
//!
//! Variant `published`: a = 20 as in document 000, truncated, which darkens by half a level.
//! Variant `corrected`: a by severity, rounded.
//!
//! Deviation: drawn from our seeded stream, not NumPy's, and applied to every image, not every second.

use super::variant::{KNOBS, PUBLISHED};
use super::{Corruption, ONCE, Severity, rounded, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("rgb-shift"),
        title: text("RGB shift"),
        summary: text(
            "Adds a random level to each channel: a wrong white balance. Needs images in color.",
        ),
        reference: text("doi:10.3390/info11020125"),
        family: text("digital"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| match setting.choice("variant") {
        PUBLISHED => Box::new(Published),
        _ => Box::new(Corrected),
    },
};

/// As document 000 measured it.
struct Published;

/// Document 000, section 4: `r_shift_limit` and the others, in grey levels.
const LIMIT: f64 = 20.0;

impl Corruption for Published {
    fn severities(&self) -> &'static [Option<Severity>] {
        &ONCE
    }

    fn needs_color(&self) -> bool {
        true
    }

    fn corrupt(&self, image: &mut [u8], shape: ImageShape, _: Severity, rng: &mut Rng) {
        if shape.channels == 3 {
            let shifts = std::array::from_fn(|_| rng.between(-LIMIT, LIMIT));
            shifted(image, shifts, truncated);
        }
    }
}

struct Corrected;

/// The largest shift in grey levels at severity 1 to 5: half of the document's, the document's, then ours in equal steps.
const LIMITS: [f64; 5] = [10.0, 20.0, 40.0, 60.0, 80.0];

impl Corruption for Corrected {
    fn needs_color(&self) -> bool {
        true
    }

    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, rng: &mut Rng) {
        if shape.channels == 3 {
            let limit = LIMITS[severity.index()];
            let shifts = std::array::from_fn(|_| rng.between(-limit, limit));
            shifted(image, shifts, rounded);
        }
    }
}

/// By given shifts in grey levels.
pub(super) fn shifted(image: &mut [u8], shifts: [f64; 3], stored: fn(f64) -> u8) {
    let area = image.len() / 3;
    for (channel, shift) in image.chunks_exact_mut(area).zip(shifts) {
        for value in channel {
            *value = stored(f64::from(*value) + shift);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_added_and_truncated() {
        // O-46.
        let mut image = vec![100, 100, 250];
        shifted(&mut image, [7.9, -7.9, 19.0], truncated);
        assert_eq!(image, [107, 92, 255]);
        let mut image = vec![100, 100, 3];
        shifted(&mut image, [7.9, -7.9, -19.0], rounded);
        assert_eq!(image, [108, 92, 0]);
    }
}
