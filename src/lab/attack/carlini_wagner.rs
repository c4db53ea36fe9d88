//! Carlini and Wagner's attack: the smallest Euclidean change that crosses a boundary, by descent on both at once.
//!
//! x' = (tanh w + 1) / 2, so that pixels stay in their range; minimizes ‖x' - x‖₂² + c max(z_y - max_{i≠y} z_i, 0) over w by
//! Adam (0.01, 0.9, 0.999), 200 steps for each of 6 constants c: 0.001, ten times as much until an error is found, then
//! halfway between the last that failed and the last that worked. Carlini and Wagner 2017, arXiv:1608.04644; constants of
//! foolbox 3.3.4. Logits, not probabilities; the best other logit is one of the others also where all are below zero.
//! Images are (B, C, H, W) in [0, 1]; a distance is ‖x' - x‖₂ over all values.
//! Deviation: foolbox gives a constant up where the sum over the batch has not fallen by a ten-thousandth in a tenth of the
//! steps; here each image gives it up by itself, so that batching changes nothing, and only once it has found an error.

use rayon::prelude::*;

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::lab::attack::ball::Norm;
use crate::lab::attack::loss::{Loss, best_other};
use crate::lab::attack::{Attack, Images, Victim, is_right, joined, knobs};
use crate::lab::error::Result;
use crate::nn::op::fake_quant::Estimator;

pub(super) const ENTRY: Entry<dyn Attack> = Entry {
    info: Info {
        id: text("carlini-wagner"),
        title: text("Carlini-Wagner"),
        summary: text(
            "The smallest change that the network errs on, in the Euclidean norm, by descent; slow and strong.",
        ),
        reference: text("arXiv:1608.04644"),
        family: text("minimal"),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        Box::new(CarliniWagner {
            searches: knobs::whole(setting, "searches"),
            steps: knobs::whole(setting, "steps"),
            rate: setting.real("rate"),
            gradient: knobs::gradient(setting),
        })
    },
};

const KNOBS: &[Knob] = &[
    knobs::EPSILONS,
    knobs::images(100),
    Knob {
        id: text("searches"),
        title: text("search steps"),
        summary: text("Constants that are tried between closeness and error."),
        range: Range::Integer {
            least: 1,
            most: 30,
            default: 6,
        },
    },
    knobs::steps(200),
    Knob {
        id: text("rate"),
        title: text("rate"),
        summary: text("Adam's learning rate."),
        range: Range::Real {
            least: 1e-5,
            most: 1.0,
            step: 0.01,
            default: 0.01,
        },
    },
    knobs::GRADIENT,
];

/// The first constant.
const FIRST: f64 = 1e-3;

/// How far into the range pixels are taken, so that white and black have a w.
const INSIDE: f64 = 0.999_999;

/// A loss that has not fallen to this share since a tenth of the steps ago stands still.
const STANDS: f64 = 0.9999;

/// The w of a pixel.
pub fn to_tanh(pixel: f64) -> f64 {
    ((2.0 * pixel - 1.0) * INSIDE).atanh()
}

/// The pixel of a w.
pub fn from_tanh(w: f64) -> f64 {
    f64::midpoint(w.tanh(), 1.0)
}

struct CarliniWagner {
    searches: u32,
    steps: u32,
    rate: f64,
    gradient: Estimator,
}

/// One image's search.
struct Search<'i> {
    at: usize,
    clean: &'i [f32],
    /// Where it starts in w, and what pixels that gives.
    start: Vec<f32>,
    origin: Vec<f32>,
    delta: Vec<f32>,
    x: Vec<f32>,
    moments: [Vec<f32>; 2],
    constant: f64,
    fails: f64,
    works: f64,
    found: bool,
    checked: f64,
    stands: bool,
    best: f64,
}

impl Search<'_> {
    fn begin(&mut self) {
        self.delta.fill(0.0);
        for moment in &mut self.moments {
            moment.fill(0.0);
        }
        (self.found, self.checked, self.stands) = (false, f64::INFINITY, false);
        self.see();
    }

    /// The pixels of where it stands.
    fn see(&mut self) {
        for ((x, w), d) in self.x.iter_mut().zip(&self.start).zip(&self.delta) {
            *x = f32::midpoint((w + d).tanh(), 1.0);
        }
    }

    /// A step of Adam, the `count`-th, given the margin z_y - max z_i and its gradient.
    fn descend(&mut self, margin: f64, slope: &[f32], rate: f64, count: u32) -> f64 {
        let weight = if margin > 0.0 { self.constant } else { 0.0 };
        let (keep, keep_squares) = (0.9_f64, 0.999_f64);
        let bias = (1.0 - keep.powf(f64::from(count))) as f32;
        let bias_squares = (1.0 - keep_squares.powf(f64::from(count))) as f32;
        let (keep, keep_squares, weight_32) = (keep as f32, keep_squares as f32, weight as f32);
        let mut squares = 0.0_f64;
        let [first, second] = &mut self.moments;
        for at in 0..self.x.len() {
            let x = self.x[at];
            let apart = x - self.origin[at];
            squares += f64::from(apart) * f64::from(apart);
            let tanh = 2.0 * x - 1.0;
            let g = (2.0 * apart + weight_32 * slope[at]) * 0.5 * (1.0 - tanh * tanh);
            first[at] = keep * first[at] + (1.0 - keep) * g;
            second[at] = keep_squares * second[at] + (1.0 - keep_squares) * g * g;
            let (m, v) = (first[at] / bias, second[at] / bias_squares);
            self.delta[at] -= rate as f32 * m / (v.sqrt() + 1e-8);
        }
        squares + weight * margin.max(0.0)
    }

    /// Between constants.
    fn turn(&mut self) {
        if self.found {
            self.works = self.constant;
        } else {
            self.fails = self.constant;
        }
        self.constant = if self.works.is_infinite() {
            self.constant * 10.0
        } else {
            f64::midpoint(self.fails, self.works)
        };
    }
}

impl Attack for CarliniWagner {
    fn norm(&self) -> Norm {
        Norm::L2
    }

    fn is_minimal(&self) -> bool {
        true
    }

    fn gradient(&self) -> Option<Estimator> {
        Some(self.gradient)
    }

    fn passes(&self, _: usize) -> u64 {
        u64::from(self.searches) * u64::from(self.steps) * 2
    }

    fn craft(&self, victim: &mut Victim<'_>, images: &Images, _: f64) -> Result<Vec<f32>> {
        victim.through(self.gradient);
        let (each, classes) = (images.each(), victim.classes());
        let mut found = images.pixels.clone();
        let mut searches: Vec<Search<'_>> = (0..images.len())
            .into_par_iter()
            .map(|at| {
                let clean = images.image(at);
                let start: Vec<f32> = clean
                    .iter()
                    .map(|x| to_tanh(f64::from(*x)) as f32)
                    .collect();
                let origin = start.iter().map(|w| f32::midpoint(w.tanh(), 1.0)).collect();
                Search {
                    at,
                    clean,
                    start,
                    origin,
                    delta: vec![0.0; each],
                    x: vec![0.0; each],
                    moments: [vec![0.0; each], vec![0.0; each]],
                    constant: FIRST,
                    fails: 0.0,
                    works: f64::INFINITY,
                    found: false,
                    checked: f64::INFINITY,
                    stands: false,
                    best: f64::INFINITY,
                }
            })
            .collect();
        let tenth = self.steps.div_ceil(10).max(1);
        for _ in 0..self.searches {
            searches.par_iter_mut().for_each(Search::begin);
            let mut active: Vec<&mut Search<'_>> = searches.iter_mut().collect();
            for step in 0..self.steps {
                let x = joined(active.iter().map(|search| &*search.x));
                let slopes = victim.slopes(&x, 1, &mut |row, _, logits, d| {
                    let label = images.labels[active[row].at] as usize;
                    Loss::Margin.of(logits, label, 0, d);
                    for d in d {
                        *d = -*d;
                    }
                })?;
                active.par_iter_mut().enumerate().for_each(|(row, search)| {
                    let logits = &slopes.logits[row * classes..(row + 1) * classes];
                    let label = images.labels[search.at] as usize;
                    let other = best_other(logits, label);
                    let margin = f64::from(logits[label]) - f64::from(logits[other]);
                    let slope = &slopes.gradients[0][row * each..(row + 1) * each];
                    let loss = search.descend(margin, slope, self.rate, step + 1);
                    if step % tenth == 0 {
                        // What is no number stands still, too.
                        let falls = loss <= STANDS * search.checked;
                        search.stands = !falls && search.found;
                        search.checked = loss;
                    }
                });
                for (search, logits) in active.iter_mut().zip(slopes.logits.chunks_exact(classes)) {
                    if !is_right(logits, images.labels[search.at]) {
                        search.found = true;
                        let distance = Norm::L2.distance(search.clean, &search.x);
                        if distance < search.best {
                            search.best = distance;
                            let of = search.at * each..(search.at + 1) * each;
                            found[of].copy_from_slice(&search.x);
                        }
                    }
                }
                active.retain(|search| !search.stands);
                if active.is_empty() {
                    break;
                }
                active.par_iter_mut().for_each(|search| search.see());
            }
            searches.iter_mut().for_each(Search::turn);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Definitions O-18.
    #[test]
    fn a_pixel_has_a_w_and_comes_back() {
        assert!((to_tanh(0.75) - 0.549_306_1).abs() < 1e-5);
        assert!((from_tanh(0.549_306_144) - 0.75).abs() < 1e-9);
        for pixel in [0.0, 0.2, 1.0] {
            assert!(to_tanh(pixel).is_finite());
            assert!((from_tanh(to_tanh(pixel)) - pixel).abs() < 1e-6);
        }
    }
}
