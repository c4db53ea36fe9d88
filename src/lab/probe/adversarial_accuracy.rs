//! Adversarial accuracy: how often a network is still right on images that an attack has changed, against the budget.
//!
//! Robust accuracy(ε) = share of a fixed stratified subset of the test images that the network has right as they are and
//! after the attack within ε; images that it has wrong as they are count as not robust. What was found within a budget counts
//! for every larger one, unless the attack is a formula (one step, noise). Attacks that look for the nearest error run once and
//! give the whole curve; the mean and the median distance are over the images where they found one.
//! Pixels in [0, 1]; a document's own units are stated in pixels. Accuracy is stated again on bytes, as an image file would
//! hold them, where that changes it: images whose rounding undoes the attack are attacked once more as the bytes that they
//! became.

use crate::catalog::{Entry, Info, text};
use crate::lab::adversarial::{Asked, estimator};
use crate::lab::attack::{Images, Struck, Victim, count, strike_bytes, strike_right};
use crate::lab::context::Context;
use crate::lab::error::Result;
use crate::lab::probe::{Probe, When, answered, finding, interval, or_warned};
use crate::lab::statistics::{quantile, wilson};
use crate::lab::subject::Subject;
use crate::measurement::{Measurement, Metric, Score, Value};
use crate::spec::ADVERSARIAL;

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("adversarial-accuracy"),
        title: text("Adversarial accuracy"),
        summary: text(
            "Accuracy under every attack that is asked for, against its budget, on the same images for every network.",
        ),
        reference: text("arXiv:1706.06083"),
        family: text(ADVERSARIAL),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(AdversarialAccuracy),
};

struct AdversarialAccuracy;

/// What one budget, or a search for the nearest, came to.
struct Point {
    epsilon: f64,
    right: Vec<bool>,
    rounded: Vec<bool>,
}

impl Probe for AdversarialAccuracy {
    fn when(&self) -> When {
        When::AtTheEnd
    }

    fn parts(&self, subject: &Subject<'_>) -> u64 {
        let asked = subject.adversarial.asked().unwrap_or_default();
        asked.iter().map(|asked| asked.epsilons.len() as u64).sum()
    }

    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        let total = self.parts(subject);
        let mut done = 0;
        for asked in subject.adversarial.asked()? {
            let images = subject
                .adversarial
                .images(&subject.data.test, asked.images, subject.seed);
            let attacked = if asked.attack.is_minimal() {
                search(&asked, &images, subject, stage, cx)
            } else {
                curve(&asked, &images, subject, stage, (done, total), cx)
            };
            or_warned(attacked, cx)?;
            done += asked.epsilons.len() as u64;
            cx.progress(done, total, &asked.condition)?;
        }
        Ok(())
    }
}

/// One budget after another.
fn curve(
    asked: &Asked,
    images: &Images,
    subject: &Subject<'_>,
    stage: u32,
    (done, total): (u64, u64),
    cx: &mut Context<'_>,
) -> Result<()> {
    let network = &subject.candidate()?.last;
    let attack = &*asked.attack;
    let clean = right_as_they_are(subject, images, cx)?;
    let (mut right, mut rounded) = (clean.clone(), clean.clone());
    for (at, epsilon) in asked.epsilons.iter().enumerate() {
        // Of an image that fell within a smaller budget, rounding may have undone it: it is asked again.
        let left: Vec<bool> = right.iter().zip(&rounded).map(|(a, b)| *a || *b).collect();
        let before = if attack.carries() { &left } else { &clean };
        let struck = {
            let mut between = || cx.checkpoint();
            let mut victim = Victim::new(network, &mut between);
            let mut struck =
                strike_right(attack, &asked.id, &mut victim, images, before, *epsilon)?;
            // What rounding saved is attacked as the bytes that it became.
            let saved: Vec<usize> = (0..images.len())
                .filter(|at| struck.right_rounded[*at] && !struck.right[*at])
                .collect();
            if !saved.is_empty() {
                let again = strike_bytes(attack, &mut victim, &images.select(&saved), *epsilon)?;
                for (at, is_right) in saved.into_iter().zip(again) {
                    struck.right_rounded[at] = is_right;
                }
            }
            struck
        };
        // An image that no longer stands an attack is not asked again, and stays so.
        let carried = |own: &[bool], known: &[bool]| -> Vec<bool> {
            let both = own.iter().zip(known).zip(before);
            both.map(|((own, known), asked)| {
                if *asked {
                    *own && (*known || !attack.carries())
                } else {
                    *known && attack.carries()
                }
            })
            .collect()
        };
        rounded = carried(&struck.right_rounded, &rounded);
        right = carried(&struck.right, &right);
        let point = Point {
            epsilon: epsilon * attack.published().unwrap_or(1.0),
            right: right.clone(),
            rounded: rounded.clone(),
        };
        state(asked, point, subject, stage, cx)?;
        cx.progress(
            done + at as u64 + 1,
            total,
            &format!("{}, budget {epsilon:.4}", asked.condition),
        )?;
    }
    Ok(())
}

/// One search for the nearest errors, and the curve that follows.
fn search(
    asked: &Asked,
    images: &Images,
    subject: &Subject<'_>,
    stage: u32,
    cx: &mut Context<'_>,
) -> Result<()> {
    let network = &subject.candidate()?.last;
    let clean = right_as_they_are(subject, images, cx)?;
    let usual = subject.adversarial.usual_budget(asked.attack.norm());
    let struck = {
        let mut between = || cx.checkpoint();
        let mut victim = Victim::new(network, &mut between);
        strike_right(
            &*asked.attack,
            &asked.id,
            &mut victim,
            images,
            &clean,
            usual,
        )?
    };
    for epsilon in &asked.epsilons {
        let right = within(&struck, &clean, *epsilon);
        // The nearest error lies on the boundary, where rounding decides by chance: it says nothing of the budget.
        let rounded = right.clone();
        let point = Point {
            epsilon: *epsilon,
            right,
            rounded,
        };
        state(asked, point, subject, stage, cx)?;
    }
    distances(asked, &struck, &clean, subject, stage, cx)
}

/// Which images stand a budget, by how far away the nearest error is.
fn within(struck: &Struck, clean: &[bool], epsilon: f64) -> Vec<bool> {
    let each = clean.iter().zip(&struck.distances);
    each.map(|(clean, distance)| *clean && *distance > epsilon)
        .collect()
}

fn right_as_they_are(
    subject: &Subject<'_>,
    images: &Images,
    cx: &mut Context<'_>,
) -> Result<Vec<bool>> {
    let mut between = || cx.checkpoint();
    let mut victim = Victim::new(&subject.candidate()?.last, &mut between);
    victim.right(&images.pixels, &images.labels)
}

/// States what one budget came to.
fn state(
    asked: &Asked,
    point: Point,
    subject: &Subject<'_>,
    stage: u32,
    cx: &mut Context<'_>,
) -> Result<()> {
    let network = &subject.candidate()?.last;
    let found = |metric| -> Result<Measurement> {
        // The share takes the place of this number.
        let value = Value::Scalar(Score(0.0));
        Ok(Measurement {
            condition: Some(asked.condition.clone()),
            budget: Some(Score(point.epsilon)),
            estimator: estimator(network, asked.attack.gradient()),
            ..finding(&ENTRY.info.id, metric, value, subject, stage)?
        })
    };
    let differs = point.rounded != point.right;
    let (n, hits) = (point.rounded.len() as u64, count(&point.rounded));
    cx.measured(answered(found(Metric::Accuracy)?, point.right, subject))?;
    if differs {
        cx.measured(Measurement {
            value: Value::Scalar(Score(hits as f64 / n.max(1) as f64)),
            interval: interval(wilson(hits, n)),
            n: Some(n),
            ..found(Metric::AccuracyRounded)?
        })?;
    }
    Ok(())
}

/// States how far the nearest errors are.
fn distances(
    asked: &Asked,
    struck: &Struck,
    clean: &[bool],
    subject: &Subject<'_>,
    stage: u32,
    cx: &mut Context<'_>,
) -> Result<()> {
    let mut found: Vec<f64> = struck
        .distances
        .iter()
        .zip(clean)
        .filter(|(distance, clean)| **clean && distance.is_finite())
        .map(|(distance, _)| *distance)
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    let network = &subject.candidate()?.last;
    let (mean, ends) = crate::lab::statistics::mean_with_interval(&found);
    found.sort_by(f64::total_cmp);
    for (metric, value, ends) in [
        (Metric::DistanceMean, mean, interval(ends)),
        (Metric::DistanceMedian, quantile(&found, 0.5), None),
    ] {
        let value = Value::Scalar(Score(value));
        cx.measured(Measurement {
            condition: Some(asked.condition.clone()),
            estimator: estimator(network, asked.attack.gradient()),
            interval: ends,
            n: Some(found.len() as u64),
            ..finding(&ENTRY.info.id, metric, value, subject, stage)?
        })?;
    }
    Ok(())
}
