//! Self-suspicion: whether attacks by gradients can be believed, or gradients are masked.
//!
//! Symptoms of Athalye et al. 2018, arXiv:1802.00420, section 3.1, Carlini et al. 2019, arXiv:1902.06705, and the flags of
//! AutoAttack's `checks.py`. Every check compares two numbers on the same images, those that the network has right:
//!
//! - what a weaker attack breaks and a stronger one does not (one step and twenty, random search and gradients, images of the
//!   reference and its own): an exact one-sided sign test of the images on which they differ (McNemar 1947). It fails where
//!   p < 0.01, passes where the weaker one is ahead by no more than 1 % of the images, and is unclear between;
//! - noise against the attack: fails where noise is not behind an attack that breaks anything, unclear where that breaks less
//!   than five images;
//! - shares that should be nothing (images that hold though all of the range is allowed, gradients that are zero, images that
//!   only many more steps break, of all that those do): fails where Wilson's lower end lies above the allowed share, unclear where the share itself
//!   does.
//!
//! Masked: one fails. Not masked: all pass. Inconclusive: none fails and one is unclear, or fewer than 20 images are right.

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::lab::adversarial::{Asked, estimator, made};
use crate::lab::attack::{Attack, Images, Loss, Norm, Victim, strike_right};
use crate::lab::context::Context;
use crate::lab::error::Result;
use crate::lab::probe::{Probe, When, finding, or_warned};
use crate::lab::subject::Subject;
use crate::measurement::{
    CheckOutcome, Masking, MaskingCheck, Measurement, Metric, Score, Value, wilson,
};
use crate::nn::op::fake_quant::Estimator;
use crate::spec::{ADVERSARIAL, KnobValue};

pub mod verdict;

use verdict::{apart, noise, share};

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("gradient-masking"),
        title: text("Gradient masking"),
        summary: text(
            "Whether attacks by gradients can be believed: a verdict, with every check that failed.",
        ),
        reference: text("arXiv:1802.00420"),
        family: text(ADVERSARIAL),
        ratio_of: None,
    },
    knobs: KNOBS,
    build: |setting| {
        Box::new(GradientMasking {
            images: usize::try_from(setting.integer("masking-images")).unwrap_or(usize::MAX),
            queries: setting.integer("masking-queries"),
            gradient: match setting.choice("masking-gradient") {
                "none" => Estimator::Nothing,
                _ => Estimator::StraightThrough,
            },
        })
    },
};

const KNOBS: &[Knob] = &[
    Knob {
        id: text("masking-images"),
        title: text("masking images"),
        summary: text("Test images on which gradients are checked."),
        range: Range::Integer {
            least: 10,
            most: 1_000_000,
            default: 200,
        },
    },
    Knob {
        id: text("masking-queries"),
        title: text("masking queries"),
        summary: text("Queries of the random search that is held against gradients."),
        range: Range::Integer {
            least: 1,
            most: 1_000_000,
            default: 500,
        },
    },
    Knob {
        id: text("masking-gradient"),
        title: text("masking gradient"),
        summary: text(
            "How the checked gradients go back through rounded activations; none shows what rounding hides.",
        ),
        range: Range::Choice {
            options: std::borrow::Cow::Borrowed(&[text("straight-through"), text("none")]),
            default: text("straight-through"),
        },
    },
];

/// Most of an image's way is free where each pixel may be anything.
const EVERYTHING: f64 = 1.0;

/// How many steps are many, and how often they begin anew.
const MANY: (i64, i64) = (100, 2);

/// Shares that are allowed: of images that hold where anything is, of zero gradients, and of what many steps break that few
/// did not. Twenty steps of a tenth of the budget have not converged where a budget breaks most but not all: an honest network
/// lost 15 % more to a hundred with a restart.
const ALLOWED: [f64; 3] = [0.05, 0.01, 0.25];

/// Attacks and looks, for the progress.
const PARTS: u64 = 8;

struct GradientMasking {
    images: usize,
    queries: i64,
    gradient: Estimator,
}

/// The images of a network that are attacked, and what became of them.
struct Bench<'a, 'c, 's> {
    subject: &'a Subject<'s>,
    images: Images,
    epsilon: f64,
    done: u64,
    cx: &'a mut Context<'c>,
}

impl Bench<'_, '_, '_> {
    /// Which images an attack breaks.
    fn broken(&mut self, id: &str, attack: &dyn Attack, epsilon: f64) -> Result<Vec<bool>> {
        let network = &self.subject.candidate()?.last;
        let all = vec![true; self.images.len()];
        let struck = {
            let mut between = || self.cx.checkpoint();
            let mut victim = Victim::new(network, &mut between);
            strike_right(attack, id, &mut victim, &self.images, &all, epsilon)?
        };
        self.went(id)?;
        Ok(struck.right.iter().map(|right| !right).collect())
    }

    fn went(&mut self, what: &str) -> Result<()> {
        self.done += 1;
        let what = format!("gradients held against {what}");
        self.cx.progress(self.done, PARTS, &what)
    }
}

impl Probe for GradientMasking {
    fn when(&self) -> When {
        When::AtTheEnd
    }

    fn parts(&self, _: &Subject<'_>) -> u64 {
        PARTS
    }

    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        // Whoever attacks without gradients through rounding is told what that hides.
        let asked = subject.adversarial.asked()?;
        let is_cut = |asked: &Asked| asked.attack.gradient() == Some(Estimator::Nothing);
        let own = Self {
            gradient: if asked.iter().any(is_cut) {
                Estimator::Nothing
            } else {
                self.gradient
            },
            ..*self
        };
        let judged = own.judge(subject, stage, cx);
        or_warned(judged, cx)
    }
}

impl GradientMasking {
    fn judge(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        let network = &subject.candidate()?.last;
        let all = subject
            .adversarial
            .images(&subject.data.test, self.images, subject.seed);
        let epsilon = subject.adversarial.usual_budget(Norm::Linf);
        let (right, flags, zero) = {
            let mut between = || cx.checkpoint();
            let mut victim = Victim::new(network, &mut between);
            let right = victim.right(&all.pixels, &all.labels)?;
            let places: Vec<usize> = (0..all.len()).filter(|at| right[*at]).collect();
            let right = all.select(&places);
            let (flags, zero) = self.look(&mut victim, &right)?;
            (places, flags, zero)
        };
        let mut bench = Bench {
            subject,
            images: all.select(&right),
            epsilon,
            done: 0,
            cx,
        };
        bench.went("its answers")?;
        let mut checks = self.attacked(&mut bench)?;
        checks.extend(self.of_reference(&mut bench, &all, &right)?);
        checks.push(share(
            "zero-gradients",
            "Gradients are zero",
            ["share of zero gradients", "allowed"],
            (zero, right.len()),
            ALLOWED[1],
        ));
        checks.extend(flags);
        let mut verdict = verdict::of(&checks, right.len());
        let chance = 1.0 / network.classes() as f64;
        if wilson(right.len() as u64, all.len() as u64).0 <= chance {
            // Where no answer hangs on the image, no gradient can say anything of it.
            verdict = Masking::Inconclusive;
            checks.insert(
                0,
                MaskingCheck {
                    id: "at-chance".to_owned(),
                    title: "The network is no better than chance".to_owned(),
                    outcome: CheckOutcome::Unclear,
                    names: ["share that is right".to_owned(), "chance".to_owned()],
                    numbers: [
                        Score(right.len() as f64 / all.len().max(1) as f64),
                        Score(chance),
                    ],
                    p: None,
                },
            );
        }
        let value = Value::Masking { verdict, checks };
        let found = finding(
            &ENTRY.info.id,
            Metric::GradientMasking,
            value,
            subject,
            stage,
        )?;
        cx.measured(Measurement {
            condition: Some("linf".to_owned()),
            budget: Some(Score(epsilon)),
            estimator: estimator(network, Some(self.gradient)),
            n: Some(right.len() as u64),
            ..found
        })
    }

    /// An attack with the checked gradients.
    fn attack(&self, id: &str, knobs: &[(&str, KnobValue)]) -> Result<Box<dyn Attack>> {
        let gradient = KnobValue::Choice(self.gradient.word().to_owned());
        let mut all = vec![("gradient", gradient)];
        all.extend(knobs.iter().cloned());
        made(id, &all)
    }

    /// AutoAttack's flags, and how many gradients are zero.
    fn look(&self, victim: &mut Victim<'_>, images: &Images) -> Result<(Vec<MaskingCheck>, usize)> {
        victim.through(self.gradient);
        let classes = victim.classes();
        let first = victim.logits(&images.pixels)?;
        let again = victim.logits(&images.pixels)?;
        let slopes = victim.slopes(&images.pixels, 1, &mut |at, _, logits, d| {
            Loss::CrossEntropy.of(logits, images.labels[at] as usize, 0, d);
        })?;
        let zero = slopes.gradients[0]
            .chunks_exact(images.each().max(1))
            .filter(|gradient| gradient.iter().all(|g| *g == 0.0))
            .count();
        let farthest = first
            .iter()
            .zip(&again)
            .map(|(a, b)| f64::from((a - b).abs()));
        let sums = first.chunks_exact(classes).map(|row| {
            let inside = row.iter().all(|z| (-1e-5..1.0 + 1e-5).contains(z));
            let sum: f64 = row.iter().map(|z| f64::from(*z)).sum();
            inside && (sum - 1.0).abs() < 1e-5
        });
        let probabilities = sums.filter(|is_one| *is_one).count();
        let all_are = probabilities > 0 && probabilities == images.len();
        let of = |id: &str, title: &str, names: [&str; 2], numbers: [f64; 2], fails| MaskingCheck {
            id: id.to_owned(),
            title: title.to_owned(),
            outcome: if fails {
                CheckOutcome::Failed
            } else {
                CheckOutcome::Passed
            },
            names: names.map(str::to_owned),
            numbers: numbers.map(Score),
            p: None,
        };
        let difference = farthest.fold(0.0, f64::max);
        let few = classes < 4;
        let mut enough = of(
            "few-classes",
            "There are too few classes for a targeted ratio of logits",
            ["classes", "needed"],
            [classes as f64, 4.0],
            false,
        );
        if few {
            enough.outcome = CheckOutcome::Unclear;
        }
        let flags = vec![
            of(
                "randomized",
                "The same image gets other answers",
                ["largest difference of logits", "allowed"],
                [difference, 1e-4],
                difference > 1e-4,
            ),
            of(
                "probabilities",
                "Outputs are probabilities and no logits",
                ["share of rows that sum to 1", "allowed"],
                [probabilities as f64 / images.len().max(1) as f64, 0.0],
                all_are,
            ),
            enough,
        ];
        Ok((flags, zero))
    }

    /// What attacks say of each other.
    fn attacked(&self, bench: &mut Bench<'_, '_, '_>) -> Result<Vec<MaskingCheck>> {
        let epsilon = bench.epsilon;
        let whole = KnobValue::Integer;
        let pgd = self.attack("pgd", &[])?;
        let step = bench.broken("fgsm", &*self.attack("fgsm", &[])?, epsilon)?;
        let steps = bench.broken("pgd", &*pgd, epsilon)?;
        let many = [("steps", whole(MANY.0)), ("restarts", whole(MANY.1))];
        let many = bench.broken("many steps", &*self.attack("pgd", &many)?, epsilon)?;
        let either = |a: &[bool], b: &[bool]| -> Vec<bool> {
            a.iter().zip(b).map(|(a, b)| *a || *b).collect()
        };
        let white = either(&steps, &many);
        let queries = [("queries", whole(self.queries))];
        let square = bench.broken("random search", &*made("square", &queries)?, epsilon)?;
        let drawn = bench.broken("noise", &*made("uniform-noise", &[])?, epsilon)?;
        let everything = bench.broken("everything", &*pgd, EVERYTHING)?;
        let n = steps.len();
        let hold = everything.iter().filter(|broken| !**broken).count();
        let later = steps
            .iter()
            .zip(&many)
            .filter(|(few, many)| !**few && **many)
            .count();
        Ok(vec![
            apart(
                "one-step-stronger",
                "One step is stronger than many",
                ["broken by FGSM", "broken by PGD"],
                [&step, &steps],
            ),
            apart(
                "black-box-stronger",
                "Random search is stronger than gradients",
                ["broken by Square", "broken by PGD"],
                [&square, &white],
            ),
            share(
                "large-budget-holds",
                "Images hold where anything is allowed",
                ["hold at budget 1", "allowed"],
                (hold, n),
                ALLOWED[0],
            ),
            share(
                "more-steps-help",
                "Many more steps and restarts break much more",
                ["missed by PGD, of what more steps break", "allowed"],
                (later, many.iter().filter(|broken| **broken).count()),
                ALLOWED[2],
            ),
            noise([&drawn, &steps]),
        ])
    }

    /// What images that were made against the reference say.
    fn of_reference(
        &self,
        bench: &mut Bench<'_, '_, '_>,
        all: &Images,
        right: &[usize],
    ) -> Result<Option<MaskingCheck>> {
        let subject = bench.subject;
        if subject.network.id == subject.network.against {
            bench.went("itself")?;
            return Ok(None);
        }
        let reference = subject.reference()?;
        let held = {
            let mut between = || bench.cx.checkpoint();
            let made = subject.adversarial.made_against(
                reference.plan.id,
                &reference.last,
                all,
                &mut between,
            )?;
            let each = all.each();
            let pixels: Vec<f32> = right
                .iter()
                .flat_map(|at| &made[at * each..(at + 1) * each])
                .copied()
                .collect();
            let mut victim = Victim::new(&subject.candidate()?.last, &mut between);
            victim.right(&pixels, &bench.images.labels)?
        };
        let transferred: Vec<bool> = held.iter().map(|right| !right).collect();
        let direct = self.attack("pgd", &[])?;
        let direct = bench.broken("the reference's images", &*direct, bench.epsilon)?;
        Ok(Some(apart(
            "transfer-stronger",
            "Images made against the reference are stronger than its own",
            ["broken by the reference's images", "broken by PGD"],
            [&transferred, &direct],
        )))
    }
}
