//! How the networks of a bench are made: trained from scratch, or from the reference's checkpoint stage by stage.

use super::{Piece, Workbench, begin, built, end, json};
use crate::event::{Cost, Event, Removed};
use crate::lab::cache::Key;
use crate::lab::compression::{self, Start};
use crate::lab::context::Context;
use crate::lab::error::{Error, Result};
use crate::lab::keeper::Keeper;
use crate::lab::ratio::{RatioOf, Sizes};
use crate::lab::run::cache_trouble;
use crate::lab::subject::Subject;
use crate::lab::train::{Life, Objective, Recipe, Training, train};
use crate::measurement::Score;
use crate::spec::{Branch, Checkpoint, Method, NetworkPlan, Setting, Stage};

impl Workbench<'_> {
    /// A network trained from scratch: a reference or a twin.
    pub(super) fn trained(
        &mut self,
        plan: &NetworkPlan,
        recipe: &Recipe,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let title = format!("training {}", plan.name);
        begin(
            plan,
            0,
            &title,
            recipe.steps(self.data.split.train.len()),
            cx,
        )?;
        let network = self.build(plan.init_seed, cx)?;
        cx.emit(self.built(&network, cx.network))?;
        let mut parts = vec![
            "train".to_owned(),
            self.digest.clone(),
            self.study.seed.to_string(),
            json(&self.reference.architecture)?,
            json(&self.reference.training)?,
            plan.init_seed.to_string(),
            plan.order_seed.to_string(),
            rayon::current_num_threads().to_string(),
        ];
        // A GPU's numbers are not a CPU's; which of several of a kind, is all the same.
        let kind = self.study.device.split(':').next().unwrap_or_default();
        if kind != "cpu" {
            parts.push(json(&(kind, self.study.tf32, self.study.deterministic))?);
        }
        if let Some(from) = &self.reference.from {
            // Where the file lies is no part of what comes out.
            parts.push(json(&(&from.sha256, &from.mean, &from.std))?);
        }
        parts.extend(self.own(plan));
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let key = Key::of(&parts);
        let initial = Some(network.duplicate()?);
        let best = network.duplicate()?;
        let piece = Piece {
            network,
            best,
            initial,
            life: Life::default(),
            outputs: Vec::new(),
            key,
        };
        let (piece, cost) = self.train(plan, piece, recipe, cx)?;
        self.shelve(plan, piece)?;
        self.between_stages(plan, 0, cx)?;
        end(plan, 0, cost, cx)
    }

    /// A branch: stage after stage of compression and fine-tuning.
    pub(super) fn branch(
        &mut self,
        plan: &NetworkPlan,
        branch: &Branch,
        recipe: &Recipe,
        at: &mut u32,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let reference = self.networks.get(&plan.against).ok_or_else(|| {
            Error::Internal(format!(
                "{} was not begun: its reference was not finished",
                plan.name
            ))
        })?;
        let from = match branch.checkpoint {
            Checkpoint::Last => &reference.last,
            Checkpoint::Best => &reference.best,
        };
        let reference_key = self.keys.get(&plan.against).map_or("", Key::text);
        let mut piece = Piece {
            network: from.duplicate()?,
            best: from.duplicate()?,
            initial: None,
            life: Life::default(),
            outputs: Vec::new(),
            key: {
                let mut parts = vec![reference_key.to_owned(), json(&branch.checkpoint)?];
                parts.extend(self.own(plan));
                Key::of(&parts.iter().map(String::as_str).collect::<Vec<_>>())
            },
        };
        let found;
        let branch = match &branch.matched {
            Some(asked) => {
                found = self.matched(plan, branch, asked, &piece.network, recipe, cx)?;
                &found
            }
            None => branch,
        };
        let whole = Sizes::written(&piece.network)?;
        for (index, stage) in branch.stages.iter().enumerate() {
            *at = index as u32;
            let cost;
            (piece, cost) = match stage {
                Stage::Compress(method) => {
                    self.compressed(plan, (*at, &whole), method, piece, recipe, cx)?
                }
                Stage::FineTune(setting) => self.fine_tuned(plan, *at, setting, piece, cx)?,
            };
            self.shelve(plan, piece)?;
            self.between_stages(plan, *at, cx)?;
            piece = self.unshelve(plan)?;
            end(plan, *at, cost, cx)?;
        }
        self.shelve(plan, piece)
    }

    /// `whole` is what the branch began with: sizes are shares of it, however many compressions came before.
    fn compressed(
        &mut self,
        plan: &NetworkPlan,
        (stage, whole): (u32, &Sizes),
        method: &Method,
        piece: Piece,
        recipe: &Recipe,
        cx: &mut Context<'_>,
    ) -> Result<(Piece, Cost)> {
        let entry = compression::find(&method.id)?;
        let compression = entry.made(&method.setting);
        let own = Recipe {
            epochs: compression.epochs(),
            ..recipe.clone()
        };
        let steps = own.steps(self.data.split.train.len());
        begin(plan, stage, &entry.info.title.to_lowercase(), steps, cx)?;
        let subject = Subject {
            seed: self.study.seed,
            data: &self.data,
            networks: &self.networks,
            elsewhere: &[],
            network: plan,
            corrupted: &self.corrupted,
            corruptions: &self.study.suite.corruptions,
            corrupted_subset: &self.corrupted_subset,
            adversarial: &self.adversarial,
            answers: &self.answers,
            threads: rayon::current_num_threads(),
        };
        let start = Start {
            subject: &subject,
            network: &piece.network,
            architecture: &self.reference.architecture,
            recipe,
            life: piece.life,
        };
        let mut keeper = Keeper::new(
            self.cache,
            None,
            plan,
            &self.data.test,
            self.landscape.as_mut(),
        );
        let made = compression.compress(&start, &mut keeper, cx)?;
        let after = Sizes::written(&made.network)?;
        let share = |of| Score(whole.removed(of, &after));
        let removed = Removed {
            channels: share(RatioOf::Channels),
            parameters: share(RatioOf::Parameters),
            nonzero: share(RatioOf::Nonzero),
            macs: share(RatioOf::Macs),
            bytes: share(RatioOf::Bytes),
        };
        cx.emit(Event::NetworkCompressed {
            network: plan.id,
            stage,
            method: method.clone(),
            counts: entry.info.ratio_of.as_ref().map(|own| {
                let asked = method.setting.0.get("ratio-of").map(ToString::to_string);
                let asked = asked.and_then(|word| RatioOf::of(&word));
                asked.map_or(own.to_string(), |of| of.noun().to_owned())
            }),
            asked: made.asked.map(Into::into),
            reached: made.reached.map(Into::into),
            removed: Some(removed),
            remarks: made.remarks,
        })?;
        // A student's architecture may be another than the reference's.
        let facts = built(&made.network, made.network.name(), plan.id);
        cx.emit(facts)?;
        // A compression that trains has been looked at after each of its epochs.
        if keeper.outputs.is_empty() {
            keeper.look(&made.network, made.life.epoch, cx)?;
        }
        let mut outputs = piece.outputs;
        outputs.append(&mut keeper.outputs);
        let best = match made.best {
            Some(best) => best,
            None => made.network.duplicate()?,
        };
        let key = Key::of(&[piece.key.text(), "compress", &json(method)?]);
        let piece = Piece {
            network: made.network,
            best,
            initial: piece.initial,
            life: made.life,
            outputs,
            key,
        };
        Ok((piece, made.cost))
    }

    fn fine_tuned(
        &mut self,
        plan: &NetworkPlan,
        stage: u32,
        setting: &Setting,
        mut piece: Piece,
        cx: &mut Context<'_>,
    ) -> Result<(Piece, Cost)> {
        let recipe = Recipe::new(setting);
        begin(
            plan,
            stage,
            "fine-tuning",
            recipe.steps(self.data.split.train.len()),
            cx,
        )?;
        let (life, stage) = (format!("{:?}", piece.life), stage.to_string());
        piece.key = Key::of(&[
            piece.key.text(),
            "fine-tune",
            &json(setting)?,
            &life,
            &stage,
        ]);
        self.train(plan, piece, &recipe, cx)
    }

    /// Trains a piece, from the cache as far as it holds it.
    fn train(
        &mut self,
        plan: &NetworkPlan,
        piece: Piece,
        recipe: &Recipe,
        cx: &mut Context<'_>,
    ) -> Result<(Piece, Cost)> {
        let Piece {
            mut network,
            initial,
            life,
            mut outputs,
            key,
            ..
        } = piece;
        if self.cache.holds(&key) {
            let place = if self.cache.is_of_one_study() {
                "its checkpoint"
            } else {
                "the cache"
            };
            cx.remark(&format!(
                "{}: what was trained before is restored from {place}",
                plan.name
            ));
        }
        let own = Some(key.clone());
        let mut keeper = Keeper::new(
            self.cache,
            own,
            plan,
            &self.data.test,
            self.landscape.as_mut(),
        );
        let training = Training {
            data: &self.data,
            recipe,
            objective: Objective::Classify,
            order_seed: plan.order_seed,
            life,
            adjust: None,
        };
        cx.keep();
        let trained = train(&mut network, &training, &mut keeper, cx)?;
        cx.kept();
        // Of no epochs, none was looked at.
        if keeper.outputs.is_empty() {
            keeper.look(&network, trained.life.epoch, cx)?;
        }
        outputs.append(&mut keeper.outputs);
        if let Some(problem) = keeper.trouble.take() {
            cx.warn(cache_trouble(&problem))?;
        }
        let piece = Piece {
            network,
            best: trained.best,
            initial,
            life: trained.life,
            outputs,
            key,
        };
        Ok((piece, trained.cost))
    }
}
