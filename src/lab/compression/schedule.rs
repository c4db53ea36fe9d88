//! When a pruning prunes: at once, a little before each epoch of a training, or along a curve while it trains.
//!
//! With t of T steps done, the share of the final ratio that is pruned is
//! - one-shot: 1, and nothing is trained;
//! - iterative: (e + 1) / E before epoch e of E (Han et al. 2015 and Li et al. 2017 in equal steps);
//! - gradual: 1 - (1 - t / t₁)³ up to t₁ = 3/4 T, then 1, moved every fortieth of T; Zhu and Gupta 2017, "To prune, or
//!   not to prune", arXiv:1710.01878, with initial sparsity 0, whose n Δt is t₁ here.

use crate::catalog::{Knob, Range, text};
use crate::lab::compression::Start;
use crate::lab::context::{Context, Observer};
use crate::lab::error::Result;
use crate::lab::train::{Objective, Recipe, Trained, Training, train};
use crate::nn::network::Network;
use crate::spec::Setting;

/// When a pruning prunes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    OneShot,
    Iterative { epochs: u32 },
    Gradual { epochs: u32 },
}

pub(super) const SCHEDULE: Knob = Knob {
    id: text("schedule"),
    title: text("schedule"),
    summary: text(
        "one-shot prunes at once and trains nothing; iterative prunes a little before each epoch of training; gradual \
         prunes along a curve in the first three quarters of it.",
    ),
    range: Range::Choice {
        options: std::borrow::Cow::Borrowed(&[
            text("one-shot"),
            text("iterative"),
            text("gradual"),
        ]),
        default: text("one-shot"),
    },
};

pub(super) const EPOCHS: Knob = Knob {
    id: text("epochs"),
    title: text("epochs"),
    summary: text(
        "Epochs that an iterative or a gradual schedule trains, with the reference's recipe.",
    ),
    range: Range::Integer {
        least: 1,
        most: 10_000,
        default: 3,
    },
};

/// Prunings of a gradual schedule would be this many if it went on to the end.
const MOVES: u64 = 40;

impl Schedule {
    /// As a checked setting has it.
    pub(super) fn new(setting: &Setting) -> Self {
        let epochs = setting.integer("epochs") as u32;
        match setting.choice("schedule") {
            "iterative" => Self::Iterative { epochs },
            "gradual" => Self::Gradual { epochs },
            _ => Self::OneShot,
        }
    }

    /// Epochs that it trains.
    pub(super) fn epochs(self) -> u32 {
        match self {
            Self::OneShot => 0,
            Self::Iterative { epochs } | Self::Gradual { epochs } => epochs,
        }
    }

    /// The share of the final ratio that is pruned once `done` of `total` steps are behind.
    pub(super) fn share(self, done: u64, total: u64) -> f64 {
        match self {
            Self::OneShot => 1.0,
            Self::Iterative { epochs } => {
                let epoch = done * u64::from(epochs) / total.max(1);
                ((epoch + 1) as f64 / f64::from(epochs)).min(1.0)
            }
            Self::Gradual { .. } => {
                let every = total.div_ceil(MOVES).max(1);
                let last = (3 * total / 4).max(1) as f64;
                let moved = (done / every * every) as f64;
                1.0 - (1.0 - moved / last).max(0.0).powi(3)
            }
        }
    }

    /// Trains with the reference's recipe, and prunes meanwhile: `prune` is told the share of the final ratio.
    pub(super) fn train(
        self,
        network: &mut Network,
        start: &Start<'_>,
        prune: &dyn Fn(&mut Network, f64) -> Result<()>,
        observer: &mut dyn Observer,
        cx: &mut Context<'_>,
    ) -> Result<Trained> {
        let recipe = Recipe {
            epochs: self.epochs(),
            ..start.recipe.clone()
        };
        let adjust = |network: &mut Network, done: u64, total: u64| {
            let share = self.share(done, total);
            if self.moves(done, total) {
                prune(network, share)?;
            }
            Ok(share >= 1.0)
        };
        let training = Training {
            data: start.subject.data,
            recipe: &recipe,
            objective: Objective::Classify,
            order_seed: start.subject.network.order_seed,
            life: start.life,
            adjust: Some(&adjust),
        };
        train(network, &training, observer, cx)
    }

    /// Whether it prunes before the step that follows `done` others.
    pub(super) fn moves(self, done: u64, total: u64) -> bool {
        done == 0 || self.share(done, total) != self.share(done - 1, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iterative_prunes_in_equal_steps_before_each_epoch() {
        let schedule = Schedule::Iterative { epochs: 4 };
        let shares: Vec<f64> = [0, 9, 10, 25, 30, 39].map(|t| schedule.share(t, 40)).into();
        assert_eq!(shares, [0.25, 0.25, 0.5, 0.75, 1.0, 1.0]);
        let moves = (0..40).filter(|done| schedule.moves(*done, 40));
        assert_eq!(moves.collect::<Vec<_>>(), [0, 10, 20, 30]);
    }

    /// By hand, s_t = s_f (1 - (1 - t / t₁)³): at a third of t₁ 1 - 8/27, at two thirds 1 - 1/27.
    #[test]
    fn gradual_follows_the_cube_and_ends_early_enough_to_recover() {
        let schedule = Schedule::Gradual { epochs: 3 };
        let at = |done| schedule.share(done, 400);
        assert_eq!(at(0), 0.0);
        assert!((at(100) - 19.0 / 27.0).abs() < 1e-12);
        assert!((at(200) - 26.0 / 27.0).abs() < 1e-12);
        assert_eq!((at(300), at(399)), (1.0, 1.0));
        assert_eq!((0..400).filter(|t| schedule.moves(*t, 400)).count(), 31);
        // Where there are fewer steps than moves, each step moves.
        assert!((0..5).all(|t| schedule.moves(t, 8)));
    }
}
