//! A branch whose strength is searched for: its stages are rehearsed at one setting after another, on training and
//! validation images alone, and what each came to is recorded; then the branch is made at the setting that was found.

use super::{Workbench, begin};
use crate::event::{Event, Trial, TrialHits};
use crate::lab::compression::{self, Start};
use crate::lab::context::{Context, Sink, Unobserved};
use crate::lab::error::{Error, Result};
use crate::lab::knob::{right, sizes, turned};
use crate::lab::matching::{Paired, last, settings};
use crate::lab::outputs::{Outputs, outputs};
use crate::lab::probe::latency;
use crate::lab::ratio::{RatioOf, Sizes};
use crate::lab::train::{Life, Objective, Recipe, Training, train};
use crate::nn::network::{Network, Workspace};
use crate::spec::{Alike, Branch, KnobValue, Match, Method, NetworkPlan, Stage, strength};

/// Nobody hears a rehearsal.
struct Unheard;

impl Sink for Unheard {
    fn state(&mut self, _: Event) -> Result<()> {
        Ok(())
    }
}

/// What the reference does on the validation images.
struct Yardstick {
    outputs: Outputs,
    hits: Vec<bool>,
    sizes: Sizes,
}

impl Workbench<'_> {
    /// The branch at the setting that `asked` is found at.
    pub(super) fn matched(
        &mut self,
        plan: &NetworkPlan,
        branch: &Branch,
        asked: &Match,
        from: &Network,
        recipe: &Recipe,
        cx: &mut Context<'_>,
    ) -> Result<Branch> {
        let impossible = |problem: String| Error::Impossible {
            knob: "match".to_owned(),
            problem,
        };
        let first = branch
            .stages
            .iter()
            .position(|stage| matches!(stage, Stage::Compress(_)));
        let Some((first, Stage::Compress(method))) = first.map(|at| (at, &branch.stages[at]))
        else {
            return Err(impossible("the branch compresses nothing".to_owned()));
        };
        let entry = compression::find(&method.id)?;
        let described = entry.describe();
        let knob = strength(&described).and_then(|id| described.knob(id));
        let Some(knob) = knob else {
            return Err(impossible(format!("{} has no strength", method.id)));
        };
        let at = |method: Method| {
            let mut found = branch.clone();
            found.stages[first] = Stage::Compress(method);
            found
        };
        let size = RatioOf::of(asked.of.word());
        let compresses = |stage: &&Stage| matches!(stage, Stage::Compress(_));
        let is_alone = branch.stages.iter().filter(compresses).count() == 1;
        if let (Some(of), Some(_), true) = (size, described.knob("ratio-of"), is_alone) {
            // The method itself searches for the ratio that removes that share; what follows would change it.
            let ratio = method.at_strength("ratio", &KnobValue::Real(asked.value));
            let word = KnobValue::Choice(of.word().to_owned());
            return Ok(at(ratio.at_strength("ratio-of", &word)));
        }
        let settings = settings(&knob.id, &knob.range);
        // A binary search of n places asks at most so often.
        let most = u64::from((settings.len() + 1).next_power_of_two().ilog2());
        begin(plan, 0, "searching for the setting that matches", most, cx)?;
        let yardstick = self.yardstick(plan)?;
        let mut tried: Vec<(usize, f64)> = Vec::new();
        let mut attempt = |place: usize, cx: &mut Context<'_>| -> Result<bool> {
            let method = method.at_strength(&knob.id, &settings[place]);
            let rehearsed = self.rehearse(plan, &at(method.clone()), from, recipe, cx)?;
            let (found, holds) = match &rehearsed {
                // What cannot be made at all is too strong.
                None => (f64::NAN, asked.of != Alike::Accuracy),
                Some(network) => {
                    let (trial, pair) = self.trial(plan, &method, network, &yardstick)?;
                    cx.emit_unkept(Event::Tried(trial))?;
                    match (asked.of, size) {
                        (Alike::Accuracy, _) => {
                            let holds = pair.is_equivalent(asked.value / 100.0);
                            (pair.lowest(), holds)
                        }
                        (_, Some(of)) => {
                            let after = Sizes::counted(network, of)?;
                            let removed = yardstick.sizes.removed(of, &after);
                            (removed, removed < asked.value)
                        }
                        (_, None) => {
                            let reference = &self.reference_of(plan)?.last;
                            let (test, threads) = (&self.data.test, rayon::current_num_threads());
                            let saved = latency::saved(reference, network, test, threads, cx)?;
                            (saved, saved < asked.value)
                        }
                    }
                }
            };
            tried.push((place, found));
            let what = format!("{} {}", knob.title, settings[place]);
            cx.progress(tried.len() as u64, most, &what)?;
            Ok(holds)
        };
        let found = last(settings.len(), |place| attempt(place, cx))?;
        tried.sort_by_key(|(place, _)| *place);
        let place = match asked.of {
            Alike::Accuracy => found,
            // The mildest that reaches the share stands behind the last that does not.
            _ => Some(found.map_or(0, |last| last + 1)).filter(|next| *next < settings.len()),
        };
        let Some(place) = place else {
            let frontier = tried
                .iter()
                .map(|(place, found)| format!("{} {:+.2} %", settings[*place], 100.0 * found));
            let frontier = frontier.collect::<Vec<_>>().join(", ");
            return Err(impossible(match asked.of {
                Alike::Accuracy => format!(
                    "no {} of {} is shown by {} validation images to lose less than {} points; lowest changes that they \
                     allow, in points: {frontier}",
                    knob.title,
                    method.id,
                    yardstick.hits.len(),
                    asked.value
                ),
                of => format!(
                    "no {} of {} removes {} % of the {}; tried: {frontier}",
                    knob.title,
                    method.id,
                    100.0 * asked.value,
                    of.word()
                ),
            }));
        };
        Ok(at(method.at_strength(&knob.id, &settings[place])))
    }

    fn reference_of(&self, plan: &NetworkPlan) -> Result<&crate::lab::subject::Kept> {
        self.networks
            .get(&plan.against)
            .ok_or_else(|| Error::Internal(format!("the reference of {} was not made", plan.name)))
    }

    fn yardstick(&self, plan: &NetworkPlan) -> Result<Yardstick> {
        let reference = self.reference_of(plan)?;
        let seen = self.validate(&reference.last)?;
        let labels = self.data.train.select(&self.data.split.validation).labels;
        Ok(Yardstick {
            hits: right(&seen, &labels),
            outputs: seen,
            sizes: Sizes::written(&reference.last)?,
        })
    }

    fn validate(&self, network: &Network) -> Result<Outputs> {
        let validation = self.data.train.select(&self.data.split.validation);
        outputs(network, &validation, &mut Workspace::default(), &mut || {
            Ok(())
        })
    }

    /// What is recorded of a rehearsal, and how its answers compare.
    fn trial(
        &self,
        plan: &NetworkPlan,
        method: &Method,
        network: &Network,
        yardstick: &Yardstick,
    ) -> Result<(Trial, Paired)> {
        let seen = self.validate(network)?;
        let labels = self.data.train.select(&self.data.split.validation).labels;
        let pair = Paired::of(&yardstick.hits, &right(&seen, &labels));
        let (ours, theirs) = (seen.predictions(), yardstick.outputs.predictions());
        let same = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
        let trial = Trial {
            reference: plan.reference,
            method: turned(method),
            n: pair.n,
            hits: vec![TrialHits {
                condition: None,
                severity: None,
                own: pair.candidate,
                reference: pair.reference,
                both: pair.both,
            }],
            same: same as u64,
            sizes: sizes(network)?,
            ..Trial::default()
        };
        Ok((trial, pair))
    }

    /// The stages of a branch, without a word; nothing when a setting cannot be made.
    fn rehearse(
        &self,
        plan: &NetworkPlan,
        branch: &Branch,
        from: &Network,
        recipe: &Recipe,
        cx: &mut Context<'_>,
    ) -> Result<Option<Network>> {
        let mut unheard = Unheard;
        let mut quiet = Context::new(&mut unheard, cx.control(), plan.id);
        let cx = &mut quiet;
        let mut network = from.duplicate()?;
        let mut life = Life::default();
        for (index, stage) in branch.stages.iter().enumerate() {
            cx.stage = index as u32;
            match stage {
                Stage::Compress(method) => {
                    let subject = self.subject(plan);
                    let start = Start {
                        subject: &subject,
                        network: &network,
                        architecture: &self.reference.architecture,
                        recipe,
                        life,
                    };
                    let entry = compression::find(&method.id)?;
                    let made = entry
                        .made(&method.setting)
                        .compress(&start, &mut Unobserved, cx);
                    match made {
                        Ok(made) => (network, life) = (made.network, made.life),
                        Err(Error::Impossible { .. }) => return Ok(None),
                        Err(error) => return Err(error),
                    }
                }
                Stage::FineTune(setting) => {
                    let tuning = Recipe::new(setting);
                    let training = Training {
                        data: &self.data,
                        recipe: &tuning,
                        objective: Objective::Classify,
                        order_seed: plan.order_seed,
                        life,
                        adjust: None,
                    };
                    match train(&mut network, &training, &mut Unobserved, cx) {
                        Ok(trained) => life = trained.life,
                        Err(Error::Diverged { .. }) => return Ok(None),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(Some(network))
    }
}
