//! What every stage cost: steps, images, gradient evaluations and time.

use std::fmt::{self, Write as _};

use super::{count, words};
use crate::event::Cost;
use crate::spec::NetworkId;
use crate::state::State;

/// What was spent on one network.
#[derive(Clone, Copy, Default)]
struct Spent {
    cost: Cost,
    milliseconds: u64,
}

impl Spent {
    fn add(&mut self, other: Self) {
        self.cost.steps += other.cost.steps;
        self.cost.images += other.cost.images;
        self.cost.gradients += other.cost.gradients;
        self.milliseconds += other.milliseconds;
    }
}

/// The table of stages that trained, and what each branch cost beside its reference.
pub(super) fn write(state: &State, text: &mut String) -> fmt::Result {
    let mut is_begun = false;
    let mut totals: Vec<(NetworkId, NetworkId, Spent)> = Vec::new();
    for network in &state.networks {
        let mut total = Spent::default();
        for stage in &network.stages {
            let Some(cost) = stage.cost.filter(|cost| cost.gradients > 0) else {
                continue;
            };
            if !is_begun {
                writeln!(text, "## Costs\n")?;
                writeln!(
                    text,
                    "| network | stage | steps | images | gradient evaluations | time |"
                )?;
                writeln!(text, "|---|---|---:|---:|---:|---:|")?;
                is_begun = true;
            }
            let milliseconds = stage.milliseconds(state.at).unwrap_or(0);
            writeln!(
                text,
                "| {} | {} | {} | {} | {} | {:.1} s |",
                words(&network.plan.name),
                words(&stage.title),
                count(Some(cost.steps as f64)),
                count(Some(cost.images as f64)),
                count(Some(cost.gradients as f64)),
                milliseconds as f64 / 1e3
            )?;
            total.add(Spent { cost, milliseconds });
        }
        totals.push((network.plan.id, network.plan.against, total));
    }
    if !is_begun {
        return Ok(());
    }
    writeln!(text)?;
    for (id, against, spent) in &totals {
        let reference = totals.iter().find(|(other, ..)| other == against);
        let Some((.., whole)) = reference.filter(|_| id != against && spent.cost.gradients > 0)
        else {
            continue;
        };
        if whole.cost.gradients == 0 {
            continue;
        }
        let share = |own: u64, of: u64| 100.0 * own as f64 / of.max(1) as f64;
        writeln!(
            text,
            "{} took {:.1} % of its reference's gradient evaluations, and {:.1} % of its time. A gradient evaluation is one \
             image's; each step of an attack is one more.\n",
            words(&state.name(*id)),
            share(spent.cost.gradients, whole.cost.gradients),
            share(spent.milliseconds, whole.milliseconds)
        )?;
    }
    Ok(())
}
