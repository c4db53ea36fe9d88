//! Everything that a picture is made of: the facts, what can be asked, and what the program adds.

use std::collections::BTreeMap;

use ratatui::style::Style;

use super::keymap::Source;
use super::theme::{self, Theme};
use super::view::View;
use crate::catalog::Catalog;
use crate::spec::{NetworkId, NetworkPlan, Role, Study};
use crate::state::comparison::Comparison;
use crate::state::seeds::{measured, over_seeds};
use crate::state::{Landscape, NOBODY, NetworkState, State, Timeline};

/// Whether somebody writes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A process is at work on it.
    Writing,
    /// It has no end, and nobody writes it any more.
    Interrupted,
    /// It is complete.
    Ended,
}

/// A saved session, as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The file's name.
    pub name: String,
    /// What was asked: `glyphs · lenet5 · magnitude pruning 50 %`.
    pub study: String,
    /// When it began, as people read it.
    pub started: String,
    /// How long it is, in milliseconds of its records.
    pub milliseconds: u64,
    pub bytes: u64,
    pub presence: Presence,
}

/// What a GPU is doing, as far as its driver says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuUse {
    /// Share of the last second in which it computed anything.
    pub busy_percent: Option<u32>,
    /// Bytes in use, by whoever uses them, and all.
    pub memory: Option<(u64, u64)>,
    pub watts: Option<u32>,
}

/// What is drawn. The view says where the user looks at it.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not exclude each other"
)]
pub struct Scene<'a> {
    /// The log with its play head; the state under the head is what the screen shows.
    pub timeline: &'a Timeline,
    /// What could be asked when the shown session was made: it gives the titles.
    pub catalog: &'a Catalog,
    /// What can be asked now: it makes the form.
    pub lab: &'a Catalog,
    pub sessions: &'a [SessionRow],
    /// How long and how large the study of the form will be, in words.
    pub estimate: &'a str,
    /// What to know about a data set by id: its size, or that it is not here and how to get it.
    pub data_notes: &'a BTreeMap<String, String>,
    /// What the program has to say, for a moment.
    pub message: Option<&'a str>,
    /// Why the study at work is no longer recorded; said for as long as it is so.
    pub unrecorded: Option<&'a str>,
    /// What the shown session's file had that was tolerated.
    pub tolerated: &'a [String],
    /// A lab is attached: it works on this study or waits for another branch.
    pub live: bool,
    /// The recording is the one that plays on the very first start, beside the form.
    pub demo: bool,
    /// Pausing was asked for and the lab has not yet said that it holds.
    pub pausing: bool,
    /// `cpu` or `cuda:0`.
    pub device: &'a str,
    /// What that GPU is doing now; nothing for the CPU, and for studies of other processes.
    pub gpu: Option<GpuUse>,
    /// Whether it rings at the end.
    pub bell: bool,
    /// Without colors.
    pub mono: bool,
}

impl<'a> Scene<'a> {
    /// What the log says up to the play head.
    pub fn state(&self) -> &'a State {
        self.timeline.state()
    }

    /// Where the facts come from.
    pub fn source(&self) -> Source {
        if self.live {
            Source::Lab
        } else {
            Source::Recording
        }
    }

    /// How meanings look.
    pub fn theme(&self) -> Theme {
        Theme::new(self.mono)
    }

    /// Whether networks were made from several seeds.
    pub fn is_repeated(&self) -> bool {
        let study = self.state().study.as_ref();
        study.is_some_and(Study::is_repeated)
    }

    /// A network beside its reference: its own numbers, or where that was asked for and can be had, means over seeds.
    pub fn comparison(&self, view: &View, id: NetworkId) -> Option<Comparison> {
        match self.over_seeds(view, id) {
            Some((found, _)) => Some(found),
            None => Comparison::of(self.state(), id),
        }
    }

    /// Over how many seeds its numbers are means, as the title line begins: `3 seeds · `; nothing where they are its own.
    pub fn seeds(&self, view: &View, id: NetworkId) -> String {
        let seeds = self.repeated(view, id);
        seeds.map_or(String::new(), |seeds| format!("{seeds} seeds · "))
    }

    /// What came of a network, in one plain sentence: by itself, or as the mean over seeds that was asked for.
    pub fn sentence(&self, view: &View, id: NetworkId) -> Option<String> {
        match self.over_seeds(view, id) {
            Some((found, seeds)) => found.sentence_over(seeds, self.state()),
            None => Comparison::of(self.state(), id)?.sentence(self.state()),
        }
    }

    /// What people call a network; where its numbers are means over seeds, without its own.
    pub fn told(&self, view: &View, id: NetworkId) -> String {
        let state = self.state();
        let network = state
            .network(id)
            .filter(|_| self.repeated(view, id).is_some());
        match (network, &state.study) {
            (Some(network), Some(study)) => study.name_over_seeds(&network.plan),
            _ => self.name(id),
        }
    }

    /// Over how many seeds its numbers are means, without taking them.
    fn repeated(&self, view: &View, id: NetworkId) -> Option<usize> {
        view.over_seeds
            .then(|| measured(self.state(), id))
            .filter(|seeds| *seeds > 1)
    }

    fn over_seeds(&self, view: &View, id: NetworkId) -> Option<(Comparison, usize)> {
        view.over_seeds
            .then(|| over_seeds(self.state(), id))
            .flatten()
    }

    /// The plans of all networks, in their order.
    pub fn plans(&self) -> Vec<&'a NetworkPlan> {
        self.state()
            .networks
            .iter()
            .map(|network| &network.plan)
            .collect()
    }

    /// The glyph of a network, everywhere and for life.
    pub fn glyph(&self, id: NetworkId) -> char {
        theme::glyph(id, &self.plans())
    }

    /// The color of a network, everywhere and for life.
    pub fn style(&self, id: NetworkId) -> Style {
        self.theme().network(id)
    }

    /// What people call a network.
    pub fn name(&self, id: NetworkId) -> String {
        self.state().name(id)
    }

    /// The network that stands beside its reference: the chosen one, else the branch at work, else the last branch
    /// that was measured, else the first branch.
    pub fn candidate(&self, view: &View) -> Option<&'a NetworkState> {
        let state = self.state();
        if let Some(chosen) = view.candidate.and_then(|id| state.network(id)) {
            return Some(chosen);
        }
        let at_work = state
            .current
            .and_then(|(id, _)| state.network(id))
            .filter(|network| network.plan.role == Role::Branch);
        at_work
            .or_else(|| {
                state
                    .branches()
                    .filter(|network| !network.measurements.is_empty())
                    .last()
            })
            .or_else(|| state.branches().next())
    }

    /// The reference of a network.
    pub fn reference_of(&self, network: &NetworkState) -> Option<&'a NetworkState> {
        self.state().network(network.plan.against)
    }

    /// The first reference, for what is drawn before there is a candidate.
    pub fn reference(&self, view: &View) -> Option<&'a NetworkState> {
        match self.candidate(view) {
            Some(candidate) => self.reference_of(candidate),
            None => self
                .state()
                .networks
                .iter()
                .map(|network| &**network)
                .find(|network| network.plan.role == Role::Reference),
        }
    }

    /// The landscape in which the shown candidate lies; only networks of one reference have distances.
    pub fn landscape(&self, view: &View) -> &'a Landscape {
        self.candidate(view)
            .or_else(|| self.reference(view))
            .map_or(&NOBODY, |shown| self.state().landscape(shown.plan.id))
    }

    /// Every network that can stand beside a reference, in order: branches, then twins.
    pub fn candidates(&self) -> Vec<NetworkId> {
        let of = |wanted: fn(Role) -> bool| {
            self.state()
                .networks
                .iter()
                .filter(move |network| wanted(network.plan.role))
                .map(|network| network.plan.id)
        };
        of(|role| role == Role::Branch)
            .chain(of(|role| matches!(role, Role::Twin | Role::SameStartTwin)))
            // The first reference is on screen by itself; another one stands beside itself.
            .chain(of(|role| role == Role::Reference).skip(1))
            .collect()
    }

    /// The heading of a corruption, with its variant if it has one, or of another method.
    pub fn title_of(&self, condition: &str) -> String {
        self.catalog.title_of_condition(condition).to_lowercase()
    }
}
