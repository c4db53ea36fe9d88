//! Functional landscape: where every epoch of every network lies by its function, and whether a branch stayed nearer to
//! its reference than a network trained anew would lie.
//!
//! Rows of distances and maps are stated at the end of each epoch by `lab::landscape`. This probe adds the verdict:
//! d = JS(branch, reference) - min over twins JS(twin, reference), means over the test images, in nats, with the 95 %
//! percentile interval of 1,000 paired bootstrap draws of images, the nearest twin sought anew in each draw.
//! Fort et al. 2019, arXiv:1912.02757, for the map; Efron & Tibshirani 1993 for the bootstrap.
//!
//! The interval is over images, not over trainings: how far twins lie from one another is known from the twins alone.
//! One twin may be an odd one, so with fewer than two the verdict is never more than undecided.

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::event::Event;
use crate::lab::context::Context;
use crate::lab::error::Result;
use crate::lab::probe::{Probe, When, compared, finding, interval, latest};
use crate::lab::statistics::{bootstrap, divergences};
use crate::lab::subject::Subject;
use crate::measurement::{Measurement, Metric, Score, Value, Verdict};
use crate::nn::rng::Rng;
use crate::spec::Role;

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("functional-landscape"),
        title: text("Functional landscape"),
        summary: text(
            "A map of every epoch of every network by its outputs, and for each branch whether it stayed nearer to its \
             reference than the nearest twin lies.",
        ),
        reference: text("arXiv:1912.02757"),
        family: text("function"),
        ratio_of: None,
    },
    knobs: &[Knob {
        id: text("map"),
        title: text("map"),
        summary: text(
            "Drawn beside classical scaling: nothing more, principal components, or those and t-SNE. Of t-SNE only \
             neighborhoods mean anything, and it needs 7 points.",
        ),
        range: Range::Choice {
            options: std::borrow::Cow::Borrowed(&[text("mds"), text("pca"), text("t-sne")]),
            default: text("pca"),
        },
    }],
    build: |_| Box::new(FunctionalLandscape),
};

/// Fewer say nothing about how far twins lie from one another.
const LEAST_TWINS: usize = 2;

struct FunctionalLandscape;

impl Probe for FunctionalLandscape {
    fn when(&self) -> When {
        When::AtTheEnd
    }

    fn parts(&self, subject: &Subject<'_>) -> u64 {
        u64::from(subject.network.role == Role::Branch)
    }

    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        if subject.network.role != Role::Branch {
            return Ok(());
        }
        let Some([reference, candidate]) = compared(subject)? else {
            return Ok(());
        };
        let twins: Vec<Vec<f64>> = subject
            .twins()
            .map(|twin| Ok(divergences(reference, latest(twin)?)))
            .collect::<Result<_>>()?;
        if !twins.is_empty() {
            let branch = divergences(reference, candidate);
            let rng = Rng::stream(
                subject.seed,
                "bootstrap",
                &[u64::from(subject.network.id.0)],
            );
            let (difference, (low, high)) = nearness(&branch, &twins, rng);
            let value = Value::Verdict {
                verdict: verdict(low, high, twins.len()),
                difference: Score(difference),
                twins: twins.len() as u32,
            };
            let found = finding(
                &ENTRY.info.id,
                Metric::NearerThanTwin,
                value,
                subject,
                stage,
            )?;
            // It depends on which twins the study has.
            cx.emit_unkept(Event::Measured(Measurement {
                against: Some(subject.network.against),
                interval: interval((low, high)),
                n: Some(branch.len() as u64),
                ..found
            }))?;
        }
        cx.progress(1, 1, "nearer than a twin?")
    }
}

/// d and its interval, from the divergences of the branch and of each twin from the reference on each image.
fn nearness(branch: &[f64], twins: &[Vec<f64>], mut rng: Rng) -> (f64, (f64, f64)) {
    let difference = |indices: &[usize]| {
        let mean = |values: &[f64]| {
            indices.iter().map(|&index| values[index]).sum::<f64>() / indices.len() as f64
        };
        let nearest = twins
            .iter()
            .map(|twin| mean(twin))
            .fold(f64::INFINITY, f64::min);
        mean(branch) - nearest
    };
    let all: Vec<usize> = (0..branch.len()).collect();
    (
        difference(&all),
        bootstrap(branch.len(), &mut rng, difference),
    )
}

fn verdict(low: f64, high: f64, twins: usize) -> Verdict {
    match (low, high) {
        _ if twins < LEAST_TWINS => Verdict::Undecided,
        (_, high) if high < 0.0 => Verdict::Nearer,
        (low, _) if low > 0.0 => Verdict::Farther,
        _ => Verdict::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Per-image divergences around `mean`.
    fn scattered(mean: f64, seed: u64) -> Vec<f64> {
        let mut rng = Rng::stream(seed, "test", &[]);
        (0..500)
            .map(|_| (mean + 0.02 * rng.normal()).max(0.0))
            .collect()
    }

    fn ask(branch: f64, twins: &[f64]) -> Verdict {
        let twins: Vec<Vec<f64>> = twins
            .iter()
            .zip(2..)
            .map(|(&mean, seed)| scattered(mean, seed))
            .collect();
        let (_, (low, high)) = nearness(
            &scattered(branch, 1),
            &twins,
            Rng::stream(7, "bootstrap", &[]),
        );
        verdict(low, high, twins.len())
    }

    #[test]
    fn a_branch_is_held_against_its_nearest_twin() {
        assert_eq!(ask(0.1, &[0.2, 0.3]), Verdict::Nearer);
        assert_eq!(ask(0.25, &[0.2, 0.3]), Verdict::Farther);
        assert_eq!(ask(0.2, &[0.2, 0.3]), Verdict::Undecided);
        assert_eq!(
            ask(0.1, &[0.2]),
            Verdict::Undecided,
            "one twin decides nothing"
        );
    }

    /// By hand: means .2 and min(.4, .3).
    #[test]
    fn the_difference_is_that_of_the_means() {
        let (difference, (low, high)) = nearness(
            &[0.1, 0.3],
            &[vec![0.4, 0.4], vec![0.2, 0.4]],
            Rng::stream(7, "bootstrap", &[]),
        );
        assert!((difference + 0.1).abs() < 1e-15, "{difference}");
        // Paired: drawing the same image twice gives .1 - .2, or .3 - .4, so no draw differs from -.1.
        assert!(
            (low + 0.1).abs() < 1e-15 && (high + 0.1).abs() < 1e-15,
            "{low} {high}"
        );
    }
}
