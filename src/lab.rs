//! The lab: it knows networks and data, and states facts; it knows no screen.

pub mod adversarial;
pub mod answers;
pub mod architecture;
pub mod attack;
pub mod augmentation;
pub mod bench;
pub mod cache;
pub mod compression;
pub mod context;
pub mod corruption;
pub mod data;
pub mod domain;
pub mod error;
pub mod estimate;
pub mod feasibility;
pub mod keeper;
pub mod knob;
pub mod landscape;
pub mod matching;
pub mod outputs;
pub mod probe;
pub mod quantization;
pub mod ratio;
pub mod resume;
pub mod run;
pub mod saved;
pub mod statistics;
pub mod storage;
pub mod subject;
pub mod train;
pub mod workbench;
pub mod worker;

use crate::catalog::{self, Catalog, CorruptionSet, Described, Entry, Text};
use crate::spec::Setting;

/// Everything the lab knows, as plain data.
pub fn catalog() -> Catalog {
    fn describe<T: ?Sized>(table: &[Entry<T>]) -> Vec<Described> {
        table.iter().map(Entry::describe).collect()
    }
    Catalog {
        datasets: describe(data::ALL),
        architectures: describe(architecture::ALL),
        compressions: describe(compression::ALL),
        corruptions: describe(corruption::ALL),
        attacks: describe(attack::ALL),
        probes: describe(probe::ALL),
        training: train::KNOBS.to_vec(),
        live: live(),
        usual_corruptions: corruption::USUAL.map(catalog::text).to_vec(),
        corruption_sets: corruption::SETS
            .iter()
            .map(|set| CorruptionSet {
                id: catalog::text(set.id),
                summary: catalog::text(set.summary),
                members: set.members.iter().map(|id| corruption::parse(id)).collect(),
            })
            .collect(),
    }
}

/// The compressions that can be turned while one looks: those that train nothing, with their knobs where they stand by
/// themselves.
fn live() -> Vec<Text> {
    let is_live = |entry: &&Entry<dyn compression::Compression>| {
        let knobs = entry.knobs.iter();
        let setting = knobs.map(|knob| (knob.id.to_string(), knob.range.default()));
        (entry.build)(&Setting(setting.collect())).is_live()
    };
    let live = compression::ALL.iter().filter(is_live);
    live.map(|entry| entry.info.id.clone()).collect()
}
