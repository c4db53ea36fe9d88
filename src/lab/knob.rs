//! The live knob: a finished reference is compressed anew at a setting that somebody turns, and looked at at once.
//!
//! Only methods that train nothing are live. The images are fixed: at most a thousand of the validation images, every
//! class in its share, clean and under the study's corruptions. Nothing that is chosen with the knob was chosen on test
//! images; a setting that is kept becomes a branch, which is measured on those like any other.
//!
//! A thousand images of `lenet5` and `cnn8` under several conditions take two threads less than a second. Of larger
//! networks fewer conditions are looked at, clean images always.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::event::{Event, Trial, TrialHits};
use crate::lab::adversarial::Adversarial;
use crate::lab::answers::Answers;
use crate::lab::compression::{self, Compressed, Start};
use crate::lab::context::{Context, Control, Unobserved};
use crate::lab::corruption::{self, Severity};
use crate::lab::data::Examples;
use crate::lab::error::{Error, Result};
use crate::lab::outputs::{Outputs, outputs};
use crate::lab::statistics::{Pair, negative_entropies};
use crate::lab::storage::written_bytes;
use crate::lab::subject::{CorruptedSets, Data, Kept, Subject};
use crate::lab::train::Recipe;
use crate::measurement::{Metric, Score};
use crate::nn::network::{Network, Workspace};
use crate::nn::parameters::ParameterRole;
use crate::spec::{Method, NetworkId, NetworkPlan, STRENGTHS, Wish};

/// Images that are looked at.
const IMAGES: usize = 1_000;

/// Conditions at most: clean images and five corruptions.
const CONDITIONS: usize = 6;

/// Multiply-accumulates that two threads do in about seven tenths of a second: `cnn8` evaluates at 6,361 images/s of
/// 13.7 M each (README), 8.7e10 a second.
const BUDGET: f64 = 6.1e10;

/// What calibration on 512 images, every activation apart, takes of a condition's time, and how much longer a condition takes
/// where activations are rounded; `cnn8`.
const CALIBRATING: f64 = 0.8;
const ROUNDING: f64 = 1.1;

/// Threads of that budget.
const THREADS: f64 = 2.0;

/// How strong corruptions are where nobody says so.
const USUAL: Severity = Severity::ALL[2];

/// Networks whose distance is told: enough to place a point in a plane, few enough for a short record.
const ANCHORS: usize = 6;

/// A finished network beside which settings are placed.
struct Anchor {
    id: NetworkId,
    network: Rc<Network>,
    /// On the clean images, with their negative entropies; made when first asked for.
    outputs: Option<(Outputs, Vec<f64>)>,
}

/// Images under one condition, and which of them the reference gets right.
struct Condition {
    /// Its condition, and its severity where it has any.
    corruption: Option<(String, Option<Severity>)>,
    images: Examples,
    hits: Vec<bool>,
}

impl Condition {
    /// Whether it is looked at when the corruptions are that strong: clean images and what has no severity always are.
    fn is_at(&self, severity: Severity) -> bool {
        let own = self.corruption.as_ref().and_then(|(_, own)| *own);
        own.is_none_or(|own| own == severity)
    }
}

/// The knob of one reference.
pub struct Knob {
    seed: u64,
    data: Rc<Data>,
    corruptions: Vec<Method>,
    architecture: Method,
    recipe: Recipe,
    plan: NetworkPlan,
    /// The reference alone, for methods that ask for it.
    networks: BTreeMap<NetworkId, Kept>,
    anchors: Vec<Anchor>,
    conditions: Vec<Condition>,
    /// Parameters of the reference whose layers were not looked at by themselves yet, the next one last.
    unsensed: Vec<String>,
    workspace: Workspace,
}

impl fmt::Debug for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the knob of {}", self.plan.name)
    }
}

impl Knob {
    /// The knob of a finished reference.
    pub fn new(
        seed: u64,
        data: Rc<Data>,
        corruptions: &[Method],
        architecture: &Method,
        recipe: Recipe,
        reference: &Kept,
    ) -> Self {
        let plan = reference.plan.clone();
        let kept = Kept {
            plan: plan.clone(),
            initial: None,
            last: Rc::clone(&reference.last),
            best: Rc::clone(&reference.best),
            life: reference.life,
            outputs: reference.outputs.last().cloned().into_iter().collect(),
        };
        let mut knob = Self {
            seed,
            data,
            corruptions: corruptions.to_vec(),
            architecture: architecture.clone(),
            recipe,
            networks: BTreeMap::from([(plan.id, kept)]),
            plan,
            anchors: Vec::new(),
            conditions: Vec::new(),
            unsensed: Vec::new(),
            workspace: Workspace::default(),
        };
        knob.admit(reference);
        knob
    }

    /// One more finished network, beside which settings are placed.
    pub fn admit(&mut self, kept: &Kept) {
        if self.anchors.len() < ANCHORS {
            self.anchors.push(Anchor {
                id: kept.plan.id,
                network: Rc::clone(&kept.last),
                outputs: None,
            });
        }
    }

    /// What comes out at a setting. `between` is asked between batches whether to go on.
    ///
    /// # Errors
    /// What `between` says. That a setting cannot be tried is said in the trial.
    pub fn attempt(
        &mut self,
        wish: &Wish,
        between: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Trial> {
        match self.tried(wish, between) {
            Err(Error::Cancelled) => Err(Error::Cancelled),
            Err(error) => Ok(Trial {
                reference: wish.reference,
                method: turned(&wish.method),
                problem: Some(error.to_string().chars().take(200).collect()),
                ..Trial::default()
            }),
            Ok(trial) => Ok(trial),
        }
    }

    fn tried(&mut self, wish: &Wish, between: &mut dyn FnMut() -> Result<()>) -> Result<Trial> {
        let made = self.compressed(&wish.method)?;
        between()?;
        let network = made.network;
        self.prepare(wish, &network, between)?;
        let mut trial = Trial {
            reference: wish.reference,
            method: turned(&wish.method),
            sizes: sizes(&network)?,
            ..Trial::default()
        };
        let severity = severity(wish);
        // Others may have been made for smaller networks.
        for place in 0..self.conditions.len().min(self.fitting(&network)) {
            let Some(condition) = self.conditions.get(place) else {
                continue;
            };
            if !condition.is_at(severity) {
                continue;
            }
            let seen = outputs(&network, &condition.images, &mut self.workspace, between)?;
            let hits = right(&seen, &condition.images.labels);
            let both = hits.iter().zip(&condition.hits).filter(|(a, b)| **a && **b);
            let count = |hits: &[bool]| hits.iter().filter(|hit| **hit).count() as u64;
            trial.hits.push(TrialHits {
                condition: condition.corruption.as_ref().map(|(id, _)| id.clone()),
                severity: condition
                    .corruption
                    .as_ref()
                    .and_then(|(_, severity)| Some(severity.as_ref()?.get())),
                own: count(&hits),
                reference: count(&condition.hits),
                both: both.count() as u64,
            });
            if condition.corruption.is_none() {
                trial.n = seen.len() as u64;
                self.compare(&seen, &mut trial);
            }
        }
        Ok(trial)
    }

    /// Looks at every layer by itself from now on.
    pub fn begin_to_sense(&mut self) {
        let Some(reference) = self.anchors.first() else {
            return;
        };
        let parameters = reference.network.parameters().iter();
        let weights = parameters.filter(|parameter| parameter.role == ParameterRole::Weight);
        self.unsensed = weights.map(|parameter| parameter.name.clone()).collect();
        self.unsensed.reverse();
    }

    /// What the next layer bears: the reference with the half of that layer's weights zeroed that is nearest to zero,
    /// on the clean images; nothing when all were looked at. Han et al. 2015, arXiv:1506.02626, figure 6.
    ///
    /// # Errors
    /// What `between` says; the layer is then looked at the next time.
    pub fn sense(
        &mut self,
        reference: u32,
        between: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<Event>> {
        /// Enough to tell layers apart, less than what takes the weakest apart.
        const SHARE: f64 = 0.5;
        let Some(name) = self.unsensed.last().cloned() else {
            return Ok(None);
        };
        self.look(between)?;
        let (Some(anchor), Some(clean)) = (self.anchors.first(), self.conditions.first()) else {
            return Ok(None);
        };
        let mut network = anchor.network.duplicate()?;
        let weights = network.parameters().values(&name)?;
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_unstable_by(|a, b| {
            weights[*a]
                .abs()
                .total_cmp(&weights[*b].abs())
                .then(a.cmp(b))
        });
        let mut mask = vec![1.0; weights.len()];
        let count = (SHARE * weights.len() as f64).round_ties_even() as usize;
        for place in &order[..count] {
            mask[*place] = 0.0;
        }
        network.parameters_mut().set_mask(&name, &mask)?;
        let seen = outputs(&network, &clean.images, &mut self.workspace, between)?;
        self.unsensed.pop();
        Ok(Some(Event::Sensed {
            reference,
            layer: name
                .rsplit_once('.')
                .map_or(&*name, |(layer, _)| layer)
                .to_owned(),
            ratio: Score(SHARE),
            n: seen.len() as u64,
            hits: seen.correct(&clean.images.labels),
            base: clean.hits.iter().filter(|hit| **hit).count() as u64,
        }))
    }

    /// Makes the clean images, and the reference's answers on them, where they are not made yet.
    fn look(&mut self, between: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let Some(anchor) = self
            .anchors
            .first_mut()
            .filter(|_| self.conditions.is_empty())
        else {
            return Ok(());
        };
        let held_out = self.data.train.select(&self.data.split.validation);
        let images = held_out.select(&held_out.stratified(IMAGES, self.seed));
        let seen = outputs(&anchor.network, &images, &mut self.workspace, between)?;
        let hits = right(&seen, &images.labels);
        anchor.outputs = Some(with_entropies(seen));
        self.conditions.push(Condition {
            corruption: None,
            images,
            hits,
        });
        Ok(())
    }

    fn compressed(&self, method: &Method) -> Result<Compressed> {
        let entry = compression::find(&method.id)?;
        let compression = entry.made(&method.setting);
        if !compression.is_live() {
            let problem = format!("{} trains or chooses for long at this setting", method.id);
            return Err(Error::Impossible {
                knob: "knob".to_owned(),
                problem,
            });
        }
        let reference = self
            .networks
            .get(&self.plan.id)
            .ok_or_else(|| Error::Internal("the knob has lost its reference".to_owned()))?;
        let (corrupted, answers) = (CorruptedSets::default(), Answers::default());
        let adversarial = Adversarial::default();
        let subject = Subject {
            seed: self.seed,
            data: &self.data,
            networks: &self.networks,
            elsewhere: &[],
            network: &self.plan,
            corrupted: &corrupted,
            corruptions: &self.corruptions,
            corrupted_subset: &[],
            adversarial: &adversarial,
            answers: &answers,
            threads: rayon::current_num_threads(),
        };
        let start = Start {
            subject: &subject,
            network: &reference.last,
            architecture: &self.architecture,
            recipe: &self.recipe,
            life: reference.life,
        };
        // What a method says on its way is said of a branch; here it is nobody's.
        let (mut facts, mut control) = (Vec::<Event>::new(), Control::default());
        let mut cx = Context::new(&mut facts, &mut control, self.plan.id);
        compression.compress(&start, &mut Unobserved, &mut cx)
    }

    /// Makes the images of each condition that fits, and the reference's answers on them, where they are not made yet;
    /// and one more anchor's.
    fn prepare(
        &mut self,
        wish: &Wish,
        network: &Network,
        between: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        self.look(between)?;
        let severity = severity(wish);
        // Other severities are forgotten: their images can be made again.
        if self.conditions.iter().any(|known| !known.is_at(severity)) {
            self.conditions.truncate(1);
        }
        while self.conditions.len() < self.fitting(network) {
            self.corrupt(severity, between)?;
        }
        self.ask_anchor(between).map(|_| ())
    }

    /// Makes one more piece of what the first setting would have to wait for; false when none is missing. For times when
    /// there is nothing else to do.
    ///
    /// # Errors
    /// What `between` says; the piece is then made the next time.
    pub fn warm_up(&mut self, between: &mut dyn FnMut() -> Result<()>) -> Result<bool> {
        let Some(reference) = self.anchors.first().map(|first| Rc::clone(&first.network)) else {
            return Ok(false);
        };
        if self.conditions.is_empty() {
            self.look(between)?;
            return Ok(true);
        }
        if self.conditions.len() < self.fitting(&reference) {
            // As strong as those that are there, if somebody looked already.
            let mut known = self.conditions.iter().rev();
            let known = known.find_map(|known| known.corruption.as_ref()?.1);
            self.corrupt(known.unwrap_or(USUAL), between)?;
            return Ok(true);
        }
        self.ask_anchor(between)
    }

    /// How many conditions a network can be looked at under in time.
    fn fitting(&self, network: &Network) -> usize {
        let threads = rayon::current_num_threads() as f64 / THREADS;
        let images = self
            .conditions
            .first()
            .map_or(0, |clean| clean.images.len());
        let each = (network.macs().max(1) * images as u64) as f64;
        let mut fit = BUDGET * threads / each;
        // Its ranges were looked up first, and rounding takes time.
        if network
            .nodes()
            .iter()
            .any(|node| node.layer.levels().is_some())
        {
            fit = (fit - CALIBRATING) / ROUNDING;
        }
        (fit as usize).clamp(1, CONDITIONS.min(self.corruptions.len() + 1))
    }

    /// Makes the images of the next corruption, and the reference's answers on them.
    fn corrupt(
        &mut self,
        severity: Severity,
        between: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let next = self.conditions.len().checked_sub(1);
        let method = next.and_then(|next| self.corruptions.get(next));
        let (Some(anchor), Some(clean), Some(method)) =
            (self.anchors.first(), self.conditions.first(), method)
        else {
            return Err(Error::Internal("the knob has no such condition".to_owned()));
        };
        let named = corruption::named(method)?;
        let own = named.corruption.severities()[0].map(|_| severity);
        let images = corruption::corrupted_set(
            &*named.corruption,
            &named.condition,
            &clean.images,
            own,
            self.seed,
        );
        let seen = outputs(&anchor.network, &images, &mut self.workspace, between)?;
        let hits = right(&seen, &images.labels);
        self.conditions.push(Condition {
            corruption: Some((named.condition, own)),
            images,
            hits,
        });
        Ok(())
    }

    /// Asks the next anchor that was not asked yet of the clean images; false when all were.
    fn ask_anchor(&mut self, between: &mut dyn FnMut() -> Result<()>) -> Result<bool> {
        let Some(clean) = self.conditions.first() else {
            return Ok(false);
        };
        let mut anchors = self.anchors.iter_mut();
        let Some(anchor) = anchors.find(|anchor| anchor.outputs.is_none()) else {
            return Ok(false);
        };
        let seen = outputs(&anchor.network, &clean.images, &mut self.workspace, between)?;
        anchor.outputs = Some(with_entropies(seen));
        Ok(true)
    }

    /// How far the answers on clean images are from those of the anchors.
    fn compare(&self, seen: &Outputs, trial: &mut Trial) {
        let own = negative_entropies(seen);
        for anchor in &self.anchors {
            let Some((theirs, entropies)) = &anchor.outputs else {
                continue;
            };
            let pair = Pair {
                outputs: [theirs, seen],
                negative_entropies: [entropies, &own],
            };
            let distance = pair.mean_divergence().sqrt();
            trial
                .distances
                .push((anchor.id, Score((distance * 1e4).round() / 1e4)));
        }
        if let Some((reference, _)) = self.anchors.first().and_then(|a| a.outputs.as_ref()) {
            let (a, b) = (reference.predictions(), seen.predictions());
            trial.same = a.iter().zip(&b).filter(|(a, b)| a == b).count() as u64;
        }
    }
}

fn severity(wish: &Wish) -> Severity {
    let mut all = Severity::ALL.into_iter();
    all.find(|severity| severity.get() == wish.severity)
        .unwrap_or(USUAL)
}

fn with_entropies(outputs: Outputs) -> (Outputs, Vec<f64>) {
    let entropies = negative_entropies(&outputs);
    (outputs, entropies)
}

pub(crate) fn right(seen: &Outputs, labels: &[u32]) -> Vec<bool> {
    let predictions = seen.predictions();
    predictions
        .iter()
        .zip(labels)
        .map(|(a, b)| a == b)
        .collect()
}

pub(crate) fn sizes(network: &Network) -> Result<Vec<(Metric, Score)>> {
    let sizes = [
        (Metric::Parameters, network.parameters().count()),
        (Metric::Nonzero, network.parameters().nonzero()),
        (Metric::Macs, network.macs()),
        (Metric::BytesWritten, written_bytes(network)?),
    ];
    Ok(sizes
        .map(|(metric, size)| (metric, Score(size as f64)))
        .to_vec())
}

/// The method with the knobs that stand elsewhere than by themselves, and always the one that is turned.
pub(crate) fn turned(method: &Method) -> Method {
    let entry = compression::ALL
        .iter()
        .find(|entry| entry.info.id == method.id);
    let mut turned = method.clone();
    turned.setting.0.retain(|id, value| {
        let knob = entry.and_then(|entry| entry.knobs.iter().find(|knob| knob.id == *id));
        let is_default = knob.is_some_and(|knob| knob.range.default() == *value);
        STRENGTHS.contains(&id.as_str()) || !is_default
    });
    turned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{self, architecture};
    use crate::nn::ImageShape;
    use crate::nn::rng::Rng;
    use crate::spec::{KnobValue, Study};

    /// The knob of an untrained `lenet5` with 60 images of noise, half of which validate.
    fn knob() -> Knob {
        let study = Study::default().check(&lab::catalog()).unwrap();
        let reference = &study.study().references[0];
        let shape = ImageShape {
            channels: 1,
            height: 28,
            width: 28,
        };
        let mut rng = Rng::stream(3, "noise", &[]);
        let images = Examples {
            shape,
            images: (0..60 * shape.values())
                .map(|_| (255.0 * rng.uniform()) as u8)
                .collect(),
            labels: (0..60).map(|at| at % 10).collect(),
            groups: Vec::new(),
        };
        let data = Data {
            test: images.clone(),
            split: crate::lab::data::Split {
                train: (0..30).collect(),
                validation: (30..60).collect(),
            },
            train: images,
            classes: (0..10).map(|at| at.to_string()).collect(),
            domains: Vec::new(),
        };
        let entry = &architecture::ALL[0];
        let made = entry.made(&reference.architecture.setting);
        let network = Rc::new(made.build(shape, 10, (&[0.5], &[0.3]), 1).unwrap());
        let kept = Kept {
            plan: study.plan(&lab::catalog())[0].clone(),
            initial: None,
            last: Rc::clone(&network),
            best: network,
            life: lab::train::Life::default(),
            outputs: Vec::new(),
        };
        Knob::new(
            1,
            Rc::new(data),
            &study.study().suite.corruptions,
            &reference.architecture,
            Recipe::new(&reference.training),
            &kept,
        )
    }

    #[test]
    fn what_was_made_beforehand_changes_no_trial() {
        let mut method = Method::plain("magnitude-pruning");
        method.setting = method.setting.with("ratio", KnobValue::Real(0.7));
        let wish = Wish {
            reference: 0,
            method,
            severity: USUAL.get(),
        };
        let mut go_on = || Ok(());
        let mut cold = knob();
        let expected = cold.attempt(&wish, &mut go_on).unwrap();
        assert_eq!(expected.problem, None);
        assert_eq!(expected.hits.len(), CONDITIONS);
        let mut warm = knob();
        let mut pieces = 0;
        while warm.warm_up(&mut go_on).unwrap() {
            pieces += 1;
        }
        assert_eq!(
            pieces, CONDITIONS,
            "the clean images bring the only anchor's answers"
        );
        let made = warm.conditions.len();
        assert_eq!(warm.attempt(&wish, &mut go_on).unwrap(), expected);
        assert_eq!(warm.conditions.len(), made, "nothing was left to be made");
        // What is stopped in the middle is made the next time.
        let mut stopped = knob();
        assert!(stopped.warm_up(&mut || Err(Error::Cancelled)).is_err());
        assert_eq!(stopped.attempt(&wish, &mut go_on).unwrap(), expected);
    }
}
