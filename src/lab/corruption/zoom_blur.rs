//! Zoom blur: the camera nears the scene while it exposes.
//!
//! The mean of the image and of zooms into its middle by 1, 1.01, 1.02 and so on; stored truncated to a byte.
//! Hendrycks and Dietterich 2019, severities as published for CIFAR-10-C (`make_cifar_c.py`). Its ranges of factors end
//! before 1.06, 1.11, 1.16, 1.21 and 1.26, but rounding lets the first two include their ends: 7, 12, 16, 21 and 26 factors.
//! Bytes in, bytes out; any number of channels, any size.

use super::zoom::Zoom;
use super::{Corruption, Severity, truncated};
use crate::catalog::{Entry, Info, text};
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

pub(super) const ENTRY: Entry<dyn Corruption> = Entry {
    info: Info {
        id: text("zoom-blur"),
        title: text("Zoom blur"),
        summary: text(
            "Averages the image with up to 26 zooms into its middle: a camera that nears the scene while it exposes.",
        ),
        reference: text("arXiv:1903.12261"),
        family: text("blur"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(ZoomBlur),
};

struct ZoomBlur;

/// How many factors at severity 1 to 5: the lengths of `make_cifar_c.py`'s ranges in `zoom_blur`, as NumPy makes them.
const FACTORS: [usize; 5] = [7, 12, 16, 21, 26];

/// Factor number `index`, with NumPy's rounding of the step.
fn factor(index: usize) -> f64 {
    1.0 + index as f64 * (1.01 - 1.0)
}

impl Corruption for ZoomBlur {
    fn corrupt(&self, image: &mut [u8], shape: ImageShape, severity: Severity, _: &mut Rng) {
        let count = FACTORS[severity.index()];
        let (height, width) = (shape.height, shape.width);
        let zooms: Vec<Zoom> = (0..count)
            .map(|index| Zoom::new(height, width, factor(index)))
            .collect();
        for channel in image.chunks_exact_mut(height * width) {
            let plane: Vec<f64> = channel.iter().map(|value| f64::from(*value)).collect();
            let mut sums = plane.clone();
            for zoom in &zooms {
                zoom.add(&plane, &mut sums);
            }
            for (value, sum) in channel.iter_mut().zip(sums) {
                *value = truncated(sum / (count + 1) as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_factors() {
        // O-42, NumPy 1.26.4: np.arange(1, e, 0.01)[-1] for e of 1.06, 1.11, 1.16, 1.21, 1.26.
        for (count, last) in FACTORS.into_iter().zip([1.06, 1.11, 1.15, 1.20, 1.25]) {
            assert!((factor(count - 1) - last).abs() < 1e-12);
        }
    }
}
