//! Augmentation: training images moved and mirrored anew in each epoch.
//!
//! crop: four black pixels are put round an image and a window of its own size is cut out at one of 9 x 9 places;
//! flip: it is mirrored left to right every other time. As for CIFAR in He et al. 2016, arXiv:1512.03385, section 4.2,
//! and torchvision's `RandomCrop(padding=4)` and `RandomHorizontalFlip`.
//! Every image of every epoch has a stream of chance of its own, so batching and threads change nothing.

use crate::nn::op::gather::Pick;
use crate::nn::rng::Rng;

/// Pixels that are put round an image before a window is cut out.
const PADDING: usize = 4;

/// What is done to a training image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Augmentation {
    #[default]
    None,
    Crop,
    CropFlip,
}

/// How one image is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    /// The window's upper left corner in the padded image.
    top: usize,
    left: usize,
    mirrored: bool,
}

impl Change {
    fn of(self, index: usize) -> Pick {
        Pick {
            down: self.top as i32 - PADDING as i32,
            right: self.left as i32 - PADDING as i32,
            mirrored: self.mirrored,
            ..Pick::plain(index)
        }
    }
}

impl Augmentation {
    fn draw(self, rng: &mut Rng) -> Change {
        let places = 2 * PADDING + 1;
        Change {
            top: rng.below(places),
            left: rng.below(places),
            mirrored: self == Self::CropFlip && rng.below(2) == 1,
        }
    }
}

/// Which images of `indices` are taken and how they are changed; `place` tells one epoch from another.
pub fn picks(
    indices: &[usize],
    augmentation: Augmentation,
    seed: u64,
    place: &[u64; 2],
) -> Vec<Pick> {
    let one = |&index: &usize| {
        if augmentation == Augmentation::None {
            return Pick::plain(index);
        }
        let mut rng = Rng::stream(seed, "augmentation", &[place[0], place[1], index as u64]);
        augmentation.draw(&mut rng).of(index)
    };
    indices.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::data::Examples;
    use crate::nn::ImageShape;
    use crate::nn::op::gather;

    fn examples(shape: ImageShape, n: usize) -> Examples {
        let bytes = (0..n * shape.values()).map(|at| (at * 37 % 255 + 1) as u8);
        Examples {
            shape,
            images: bytes.collect(),
            labels: vec![0; n],
            groups: Vec::new(),
        }
    }

    fn shape(channels: usize, height: usize, width: usize) -> ImageShape {
        ImageShape {
            channels,
            height,
            width,
        }
    }

    /// Pads, cuts and mirrors pixel by pixel.
    #[test]
    fn every_window_is_what_padding_and_cutting_give() {
        for shape in [shape(2, 6, 5), shape(1, 3, 3), shape(1, 1, 1)] {
            let examples = examples(shape, 1);
            let image = examples.image(0);
            for place in 0..162 {
                let (top, left, mirrored) = (place / 9 % 9, place % 9, place >= 81);
                let mut found = vec![0.0; shape.values()];
                let change = Change {
                    top,
                    left,
                    mirrored,
                };
                gather::forward(shape, &examples.images, &[change.of(0)], &mut found);
                let (h, w) = (shape.height, shape.width);
                for (at, found) in found.iter().enumerate() {
                    let (plane, y, x) = (at / (h * w), at / w % h, at % w);
                    let x = if mirrored { w - 1 - x } else { x };
                    let inside = (PADDING..PADDING + h).contains(&(y + top))
                        && (PADDING..PADDING + w).contains(&(x + left));
                    let expected = if inside {
                        let (y, x) = (y + top - PADDING, x + left - PADDING);
                        f32::from(image[plane * h * w + y * w + x]) / 255.0
                    } else {
                        0.0
                    };
                    assert_eq!(*found, expected, "{change:?} at {at}");
                }
            }
        }
    }

    #[test]
    fn an_image_is_drawn_by_itself_and_anew_in_each_epoch() {
        let examples = examples(shape(1, 12, 12), 40);
        let all: Vec<usize> = (0..40).collect();
        let of = |indices: &[usize], augmentation, epoch| {
            let picks = picks(indices, augmentation, 7, &[0, epoch]);
            let mut found = vec![0.0; indices.len() * examples.shape.values()];
            gather::forward(examples.shape, &examples.images, &picks, &mut found);
            found
        };
        let whole = of(&all, Augmentation::CropFlip, 0);
        let halves = [
            of(&all[..13], Augmentation::CropFlip, 0),
            of(&all[13..], Augmentation::CropFlip, 0),
        ];
        assert_eq!(whole, halves.concat());
        assert_ne!(whole, of(&all, Augmentation::CropFlip, 1));
        assert_ne!(whole, of(&all, Augmentation::Crop, 0));
        let plain = examples.images.iter().map(|byte| f32::from(*byte) / 255.0);
        assert_eq!(of(&all, Augmentation::None, 0), plain.collect::<Vec<_>>());
    }

    /// Each of the 9 x 9 places comes about equally often, and half of the images are mirrored.
    #[test]
    fn places_are_even() {
        let n = 81_000;
        let mut counts = [0_u32; 81];
        let mut mirrored = 0;
        for index in 0..n {
            let mut rng = Rng::stream(3, "augmentation", &[0, 0, index]);
            let change = Augmentation::CropFlip.draw(&mut rng);
            counts[change.top * 9 + change.left] += 1;
            mirrored += u32::from(change.mirrored);
        }
        // Five standard deviations: 5 sqrt(1000) and 5 sqrt(n) / 2.
        assert!(counts.iter().all(|count| count.abs_diff(1000) < 158));
        assert!(mirrored.abs_diff(40_500) < 712, "{mirrored}");
    }
}
