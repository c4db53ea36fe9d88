//! Transfer: images that were made against one network are asked of another, for all pairs of networks of a study that are
//! asked the same images, whatever reference they belong to.
//!
//! PGD (20 steps, the data set's usual budget, L-infinity) against A, accuracy of B on what came out; images that A has wrong
//! as they are stay as they are. A growing matrix: when a network is made, it joins all before it, in both directions, and
//! itself. Papernot et al. 2016, arXiv:1605.07277.
//! A finding is of B, against A; in a session it stands where the later of both was made.

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::event::Event;
use crate::lab::attack::{Images, Norm, Victim, count};
use crate::lab::context::Context;
use crate::lab::error::Result;
use crate::lab::probe::{Probe, When, finding, interval, or_warned};
use crate::lab::statistics::wilson;
use crate::lab::subject::{Kept, Subject};
use crate::measurement::{Measurement, Metric, Score, Value};
use crate::spec::ADVERSARIAL;

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("transfer"),
        title: text("Transfer"),
        summary: text(
            "Accuracy on images that PGD made against another network, for every pair of networks.",
        ),
        reference: text("arXiv:1605.07277"),
        family: text(ADVERSARIAL),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        Box::new(Transfer {
            images: usize::try_from(setting.integer("transfer-images")).unwrap_or(usize::MAX),
        })
    },
};

const KNOBS: &[Knob] = &[Knob {
    id: text("transfer-images"),
    title: text("transfer images"),
    summary: text("Test images that are made against one network and asked of the others."),
    range: Range::Integer {
        least: 10,
        most: 1_000_000,
        default: 200,
    },
}];

struct Transfer {
    images: usize,
}

impl Probe for Transfer {
    fn when(&self) -> When {
        When::AtTheEnd
    }

    fn is_of_the_study(&self) -> bool {
        true
    }

    fn parts(&self, subject: &Subject<'_>) -> u64 {
        let own = u64::from(!subject.networks.contains_key(&subject.network.id));
        (subject.networks.len() + subject.elsewhere.len()) as u64 + own
    }

    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        let (own, total) = (subject.candidate()?, self.parts(subject));
        let images = subject
            .adversarial
            .images(&subject.data.test, self.images, subject.seed);
        let all = subject
            .networks
            .values()
            .chain(subject.elsewhere.iter().copied());
        for (done, other) in all.enumerate() {
            let is_own = other.plan.id == own.plan.id;
            let asked = ask(&images, other, own, subject, stage, cx);
            or_warned(asked, cx)?;
            if !is_own {
                let asked = ask(&images, own, other, subject, stage, cx);
                or_warned(asked, cx)?;
            }
            cx.progress(
                done as u64 + 1,
                total,
                &format!("transfer, {}", other.plan.name),
            )?;
        }
        Ok(())
    }
}

/// Asks `to` about what was made against `from`.
fn ask(
    images: &Images,
    from: &Kept,
    to: &Kept,
    subject: &Subject<'_>,
    stage: u32,
    cx: &mut Context<'_>,
) -> Result<()> {
    let right = {
        let mut between = || cx.checkpoint();
        let made =
            subject
                .adversarial
                .made_against(from.plan.id, &from.last, images, &mut between)?;
        let mut victim = Victim::new(&to.last, &mut between);
        victim.right(&made, &images.labels)?
    };
    let (n, hits) = (right.len() as u64, count(&right));
    let value = Value::Scalar(Score(hits as f64 / n.max(1) as f64));
    let found = finding(
        &ENTRY.info.id,
        Metric::TransferAccuracy,
        value,
        subject,
        stage,
    )?;
    // The stage before the last of its plan, which measures, is where the other one stands.
    let of_other = (to.plan.stages.len() as u32).saturating_sub(2);
    let is_own = to.plan.id == subject.network.id;
    cx.emit_unkept(Event::Measured(Measurement {
        network: to.plan.id,
        stage: if is_own { stage } else { of_other },
        epoch: to.life.epoch,
        against: Some(from.plan.id),
        condition: Some("pgd".to_owned()),
        budget: Some(Score(subject.adversarial.usual_budget(Norm::Linf))),
        interval: interval(wilson(hits, n)),
        n: Some(n),
        ..found
    }))
}
