//! What a row of the form means, in words.

use crate::catalog::{Catalog, Info, Knob};
use crate::ui::form::{Form, Place};

/// Words about a row.
pub(super) struct Told {
    pub(super) title: String,
    pub(super) paragraphs: Vec<String>,
    pub(super) source: String,
}

/// What is said of a row.
pub(super) fn tell(place: &Place, form: &Form, catalog: &Catalog) -> Told {
    let reference = &form.study().references[form.reference() as usize];
    let of_method = |id: &str| match catalog.find(id) {
        Some(found) => of_info(&found.info),
        None => said(id, &["This program does not know it."]),
    };
    let of_knob = |knob: Option<&Knob>, owner: &str| match knob {
        Some(knob) => Told {
            title: knob.title.to_string(),
            paragraphs: vec![knob.summary.to_string(), format!("Takes {}.", knob.range)],
            source: owner.to_owned(),
        },
        None => said(owner, &[]),
    };
    let knob_of = |method: &str, id: &str| {
        let found = catalog.find(method);
        let owner = found.map_or(method.to_owned(), |found| found.info.title.to_string());
        of_knob(found.and_then(|found| found.knob(id)), &owner)
    };
    let method_at = |branch: usize, stage: usize| {
        reference
            .branches
            .get(branch)
            .and_then(|branch| branch.stages.get(stage))
            .and_then(|stage| match stage {
                crate::spec::Stage::Compress(method) => Some(method.id.as_str()),
                crate::spec::Stage::FineTune(_) => None,
            })
            .unwrap_or_default()
    };
    match place {
        Place::Dataset => of_method(&reference.dataset.id),
        Place::DatasetKnob(id) => knob_of(&reference.dataset.id, id),
        Place::Architecture => of_method(&reference.architecture.id),
        Place::ArchitectureKnob(id) => knob_of(&reference.architecture.id, id),
        Place::Resize => said(
            "Larger images",
            &[
                "Enlarge all images to so many pixels a side: for networks and weights that were made for larger ones, \
                 224 for ImageNet's. Empty: as they are.",
            ],
        ),
        Place::From => said(
            "Weights to start from",
            &[
                "The reference and its twins start from this file instead of random values. A classifier for other \
                 classes is drawn anew.",
                "`shrinklab run --from`, or a study in a file, names another.",
            ],
        ),
        Place::Mean | Place::Std => said(
            "What pixels are held against",
            &[
                "Mean and standard deviation of pixels from 0 to 1 that those weights were trained with: one for each \
                 channel, or one for all.",
            ],
        ),
        Place::Training(id) => of_knob(
            catalog.training.iter().find(|knob| knob.id == *id),
            "Recipe of the reference and its twins; fine-tuning inherits it.",
        ),
        Place::ProbeKnob(probe, id) => knob_of(probe, id),
        Place::Method(branch, stage) => of_method(method_at(*branch, *stage)),
        Place::Knob(branch, stage, id) => knob_of(method_at(*branch, *stage), id),
        Place::Seed => said(
            "Seed",
            &[
                "Everything that chance decides is drawn from it: first weights, data order, corruptions.",
                "The same seed and number of threads give the same numbers, bit for bit.",
                "Several, with commas, make every network once for each: S then shows means over seeds.",
            ],
        ),
        Place::Twins => said(
            "Twins",
            &[
                "Networks of the same recipe that differ by their seed alone.",
                "How far they are from the reference is how far chance alone goes: only a branch beyond that is \
                 a different function.",
                "With one twin the verdict is never more than \"undecided\".",
            ],
        ),
        Place::SameStartTwin => said(
            "Same-start twin",
            &[
                "The same first weights as the reference, but another order of the data.",
                "The control for self-distillation, which starts from the same weights too.",
            ],
        ),
        Place::TrainLimit => said(
            "Training images",
            &[
                "Use only so many of them, for a quick look. A tenth is kept for validation. Empty: all.",
            ],
        ),
        Place::TestLimit => said("Test images", &["Use only so many of them. Empty: all."]),
        Place::Attacks => said(
            "Attacks",
            &[
                "Which images are searched that look the same and are taken for something else: none, PGD, one step and many, \
                 those that cost little, or AutoAttack, which costs most.",
                "With any of them gradients are judged, too, and images made against one network are asked of the others. \
                 The screen of robustness (7) shows them; budgets and steps are turned by --set.",
            ],
        ),
        Place::Domains => said(
            "Domains",
            &[
                "Whether every network is also asked about images of the other domains that the data set knows, for which it \
                 was not trained.",
                "Other data sets are named by --domains or in a study's file.",
            ],
        ),
        Place::Corruptions => said(
            "Corruptions",
            &[
                "What test images go through before the networks see them: five usual ones, the fifteen of CIFAR-10-C, its four \
                 others, the five of document 000 as published or visible at this size, or all.",
                "Any others, with their variants, are named by --corruptions or in a study's file.",
            ],
        ),
        Place::FullSuite => said(
            "Corrupt all test images",
            &[
                "Otherwise corruptions are measured on a fixed subset with every class in its share, and n is shown.",
            ],
        ),
        Place::Threads => said(
            "Threads",
            &[
                "How many compute. Sums depend on their number in the last digits, so it is part of the question.",
            ],
        ),
        Place::Device => said(
            "Device",
            &[
                "Where networks compute. auto takes the GPU with the most free memory, and the CPU where there is none; \
                 cuda takes the first GPU.",
                "GPUs are the work of a program of its own, shrinklab-cuda, which takes this one's place; `shrinklab doctor` \
                 says what it lacks.",
            ],
        ),
        Place::FineTune(..) => said(
            "Fine-tuning",
            &[
                "Epochs of more training behind the compression, with masks and quantizers kept. 0: none.",
                "It inherits the recipe of the reference.",
            ],
        ),
        Place::Then(_) => said(
            "One more compression",
            &[
                "Compressions may follow one another. → adds one behind the others; beyond the last of its list it goes away again.",
            ],
        ),
        Place::Checkpoint(_) => said(
            "Checkpoint",
            &[
                "Which state of the reference is compressed: after its last epoch, or after the one with the lowest \
                 validation loss.",
            ],
        ),
        Place::Measure => {
            let list = |table: &[crate::catalog::Described]| {
                let titles: Vec<String> = table
                    .iter()
                    .map(|method| method.info.title.to_lowercase())
                    .collect();
                titles.join(", ")
            };
            let usual: Vec<String> = catalog
                .corruptions
                .iter()
                .filter(|method| {
                    let usual = &catalog.usual_corruptions;
                    usual.is_empty() || usual.contains(&method.info.id)
                })
                .map(|method| method.info.title.to_lowercase())
                .collect();
            Told {
                title: "What is measured".to_owned(),
                paragraphs: vec![
                    format!("Of every network: {}.", list(&catalog.probes)),
                    format!("Under: {}; severities 1 to 5.", usual.join(", ")),
                    "All networks see the same images, corrupted ones byte for byte.".to_owned(),
                ],
                source: String::new(),
            }
        }
        Place::AddBranch => said(
            "Another branch",
            &[
                "One more way to compress the same reference, drawn beside the others. → or + adds it; - takes one away.",
            ],
        ),
    }
}

fn of_info(info: &Info) -> Told {
    let mut paragraphs = vec![info.summary.to_string()];
    if let Some(counts) = &info.ratio_of {
        paragraphs.push(format!(
            "Its ratio is the share of {counts} that is removed; 0 changes nothing."
        ));
    }
    Told {
        title: info.title.to_string(),
        paragraphs,
        source: info.reference.to_string(),
    }
}

fn said(title: &str, paragraphs: &[&str]) -> Told {
    Told {
        title: title.to_owned(),
        paragraphs: paragraphs.iter().map(|words| (*words).to_owned()).collect(),
        source: String::new(),
    }
}
