//! Square attack: random search with squares, which takes no gradient and so cannot be misled by one.
//!
//! L-infinity: begins with vertical stripes of ±ε for each column and channel; each query adds ±2ε, one sign for each channel,
//! in a square of side max(round √(p h w), 1), back into the ball and the range. L2: begins with a grid of bumps; each query
//! moves the mass of one window and what the budget leaves into another. A change is kept where the margin z_y - max z_i falls
//! or the network errs. p starts at 0.8 and is halved after 10, 50, 200, 500, 1,000, 2,000, 4,000, 6,000 and 8,000 queries.
//! Andriushchenko et al. 2020, arXiv:1912.00049; the schedule is not rescaled, as in AutoAttack.
//! Images are (B, C, H, W) in [0, 1], square or not: a side is no longer than the shorter one.
//! Deviation: the official code draws one place for all images of a batch; here each image draws its own.

use rayon::prelude::*;

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::lab::attack::ball::Norm;
use crate::lab::attack::loss::best_other;
use crate::lab::attack::{Attack, Images, Victim, joined, knobs};
use crate::lab::error::Result;
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

mod bumps;

pub(super) const ENTRY: Entry<dyn Attack> = Entry {
    info: Info {
        id: text("square"),
        title: text("Square"),
        summary: text(
            "Random search with squares of ever smaller size: looks at answers alone, never at a gradient.",
        ),
        reference: text("arXiv:1912.00049"),
        family: text("black-box"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        Box::new(Square {
            norm: knobs::norm(setting),
            queries: knobs::whole(setting, "queries"),
            rescale: setting.flag("rescale"),
            restarts: knobs::whole(setting, "restarts"),
        })
    },
};

const KNOBS: &[Knob] = &[
    knobs::EPSILONS,
    knobs::images(200),
    knobs::NORM,
    Knob {
        id: text("queries"),
        title: text("queries"),
        summary: text("How often the network is asked about each image at most."),
        range: Range::Integer {
            least: 1,
            most: 1_000_000,
            default: 5000,
        },
    },
    Knob {
        id: text("rescale"),
        title: text("rescale"),
        summary: text(
            "Whether squares shrink over the queries there are, and not as over 10,000 (torchattacks does).",
        ),
        range: Range::Flag { default: false },
    },
    knobs::RESTARTS,
];

/// Queries after which the share of an image that a square covers is halved.
const HALVED: [u32; 9] = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000];

/// The share at first.
const FIRST: f64 = 0.8;

/// Queries over which the schedule was made.
const SCHEDULE: u64 = 10_000;

/// The side of the square of a query, counted from 0, on an image of that many pixels; over `rescaled` queries where the
/// schedule is.
pub fn side(query: u32, pixels: usize, rescaled: Option<u32>) -> usize {
    let query = match rescaled {
        Some(queries) => (u64::from(query) * SCHEDULE / u64::from(queries.max(1))) as u32,
        None => query,
    };
    let halvings = HALVED.iter().filter(|after| query > **after).count();
    let share = FIRST / f64::from(1_u32 << halvings);
    ((share * pixels as f64).sqrt().round_ties_even() as usize).max(1)
}

struct Square {
    norm: Norm,
    queries: u32,
    rescale: bool,
    restarts: u32,
}

/// One image's search.
struct Search<'i> {
    at: usize,
    clean: &'i [f32],
    best: Vec<f32>,
    margin: f64,
    x: Vec<f32>,
    rng: Rng,
}

/// One or minus one.
fn sign(rng: &mut Rng) -> f32 {
    if rng.below(2) == 0 { -1.0 } else { 1.0 }
}

/// A place for a square: the last row and column are reached only by one as large as the image, as in the official code.
fn place(rng: &mut Rng, side: usize, of: usize) -> usize {
    if of > side { rng.below(of - side) } else { 0 }
}

/// Stripes of ±ε.
fn stripes(clean: &[f32], shape: ImageShape, epsilon: f64, rng: &mut Rng) -> Vec<f32> {
    let columns: Vec<f32> = (0..shape.channels * shape.width)
        .map(|_| sign(rng))
        .collect();
    let epsilon = epsilon as f32;
    let area = shape.height * shape.width;
    let of = |(at, clean): (usize, &f32)| {
        clean + epsilon * columns[at / area * shape.width + at % shape.width]
    };
    clean.iter().enumerate().map(of).collect()
}

impl Square {
    fn begin(&self, images: &Images, at: usize, restart: u64, epsilon: f64) -> Vec<f32> {
        let (clean, shape) = (images.image(at), images.shape);
        let mut rng = images.stream("square-start", at, restart);
        let mut x = match self.norm {
            Norm::Linf => stripes(clean, shape, epsilon, &mut rng),
            Norm::L2 => bumps::grid(clean, shape, epsilon, &mut rng),
        };
        self.norm.project(clean, &mut x, epsilon);
        x
    }

    /// The next candidate of a search.
    fn draw(&self, search: &mut Search<'_>, shape: ImageShape, query: u32, epsilon: f64) {
        let (height, width) = (shape.height, shape.width);
        let rescaled = self.rescale.then_some(self.queries);
        let side = side(query, height * width, rescaled).min(height.min(width));
        search.x.clone_from(&search.best);
        match self.norm {
            Norm::Linf => {
                let top = place(&mut search.rng, side, height);
                let left = place(&mut search.rng, side, width);
                for channel in 0..shape.channels {
                    let by = 2.0 * epsilon as f32 * sign(&mut search.rng);
                    for y in top..top + side {
                        let row = (channel * height + y) * width;
                        for x in &mut search.x[row + left..row + left + side] {
                            *x += by;
                        }
                    }
                }
            }
            Norm::L2 => bumps::shift(
                &mut search.x,
                search.clean,
                shape,
                side,
                epsilon,
                &mut search.rng,
            ),
        }
        self.norm.project(search.clean, &mut search.x, epsilon);
    }
}

impl Attack for Square {
    fn norm(&self) -> Norm {
        self.norm
    }

    fn passes(&self, _: usize) -> u64 {
        u64::from(self.queries) * u64::from(self.restarts)
    }

    fn craft(&self, victim: &mut Victim<'_>, images: &Images, epsilon: f64) -> Result<Vec<f32>> {
        let (each, classes) = (images.each(), victim.classes());
        let mut found = images.pixels.clone();
        let mut left: Vec<usize> = (0..images.len()).collect();
        for restart in 0..u64::from(self.restarts) {
            let begin = |at: &usize| Search {
                at: *at,
                clean: images.image(*at),
                best: images.image(*at).to_vec(),
                margin: f64::INFINITY,
                x: self.begin(images, *at, restart, epsilon),
                rng: images.stream("square", *at, restart),
            };
            let mut searches: Vec<Search<'_>> = left.par_iter().map(begin).collect();
            for query in 0..=self.queries {
                if query > 0 {
                    searches.par_iter_mut().for_each(|search| {
                        self.draw(search, images.shape, query - 1, epsilon);
                    });
                }
                let x = joined(searches.iter().map(|search| &*search.x));
                let logits = victim.logits(&x)?;
                for (search, logits) in searches.iter_mut().zip(logits.chunks_exact(classes)) {
                    let label = images.labels[search.at] as usize;
                    let other = best_other(logits, label);
                    let mut margin = f64::from(logits[label]) - f64::from(logits[other]);
                    // Among equals the first class counts.
                    if margin == 0.0 && label < other {
                        margin = f64::MIN_POSITIVE;
                    }
                    if margin < search.margin || margin <= 0.0 {
                        search.margin = margin;
                        std::mem::swap(&mut search.best, &mut search.x);
                    }
                }
                for search in searches.iter().filter(|search| search.margin <= 0.0) {
                    found[search.at * each..(search.at + 1) * each].copy_from_slice(&search.best);
                }
                searches.retain(|search| search.margin > 0.0);
                if searches.is_empty() {
                    return Ok(found);
                }
            }
            for search in &searches {
                found[search.at * each..(search.at + 1) * each].copy_from_slice(&search.best);
            }
            left = searches.iter().map(|search| search.at).collect();
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Definitions O-16.
    #[test]
    fn squares_shrink_as_published() {
        let queries = [0, 11, 51, 201, 501, 1001, 2001, 4001];
        let sides = queries.map(|query| side(query, 32 * 32, None));
        assert_eq!(sides, [29, 20, 14, 10, 7, 5, 4, 3]);
        let rescaled = queries.map(|query| side(query, 32 * 32, Some(5000)));
        assert_eq!(rescaled, [29, 20, 14, 10, 5, 4, 3, 1]);
    }
}
