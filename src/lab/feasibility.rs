//! What the catalog alone does not show to be impossible: images that do not suit a network, weights that do not fit it,
//! and compressions that find nothing in it to compress. It is known before anything runs, from how large the data sets are; no image is read.

use std::path::Path;

use crate::lab::adversarial::impossible;
use crate::lab::architecture;

use crate::lab::compression;
use crate::lab::corruption::{self, named};
use crate::lab::data::{self, Source};
use crate::lab::domain;
use crate::lab::error::{Error, Result};
use crate::lab::saved;
use crate::nn::ImageShape;
use crate::nn::network::Network;
use crate::nn::parameters::pretrained;
use crate::spec::{Branch, CheckedStudy, Method, Reference, SpecError, Stage, Study, Weights};

/// The largest side that is named to somebody whose images are too small; every network here takes such images.
const LARGE: usize = 64;

/// Everything that keeps a study from running: shapes, and the files of weights.
pub fn problems(study: &CheckedStudy) -> Vec<SpecError> {
    found(study, true)
}

/// What shapes alone show, without opening a file: for a form that changes with every key.
pub fn of_shapes(study: &CheckedStudy) -> Vec<SpecError> {
    found(study, false)
}

/// The study with sets of corruptions (`cifar-10-c`) spelled out, and variants behind a colon (`random-fog:published`)
/// turned into knobs. Of a set, what needs color is left out where a data set has none.
pub fn spelled_out(mut study: Study) -> Study {
    (study.suite.corruptions, _) = members(&study);
    study
}

/// Members of the sets of corruptions that [`spelled_out`] leaves out of a study, since its images have no color.
pub fn left_out(study: &Study) -> Vec<String> {
    let (_, left_out) = members(study);
    let conditions = left_out.iter().filter_map(|method| named(method).ok());
    conditions.map(|named| named.condition).collect()
}

/// The corruptions that a study's words stand for, each once, and what is left out of them.
fn members(study: &Study) -> (Vec<Method>, Vec<Method>) {
    let is_gray = study.references.iter().any(|reference| {
        let shape = shape_of(reference);
        shape.is_some_and(|shape| shape.channels != 3)
    });
    let is_colored =
        |method: &Method| named(method).is_ok_and(|named| named.corruption.needs_color());
    let (mut kept, mut left_out): (Vec<Method>, Vec<Method>) = (Vec::new(), Vec::new());
    for method in &study.suite.corruptions {
        let is_plain = method.setting.0.is_empty();
        let set = corruption::SETS.iter().find(|set| set.id == method.id);
        let several = match set.filter(|_| is_plain) {
            Some(set) => set
                .members
                .iter()
                .map(|member| corruption::parse(member))
                .collect(),
            None if is_plain => vec![corruption::parse(&method.id)],
            None => vec![method.clone()],
        };
        for member in several {
            // What is asked for by its own name is refused, and not left out.
            let gone = is_gray && is_plain && set.is_some() && is_colored(&member);
            let into = if gone { &mut left_out } else { &mut kept };
            if !into.contains(&member) {
                into.push(member);
            }
        }
    }
    (kept, left_out)
}

/// The images of a reference as its data set has them; nothing where the data set is not known.
fn shape_of(reference: &Reference) -> Option<ImageShape> {
    Some(domain::source(&reference.dataset)?.extent().shape)
}

/// Corruptions that are asked for of images on which they are not defined.
fn of_corruptions(study: &Study) -> Vec<SpecError> {
    let mut problems = Vec::new();
    for method in &study.suite.corruptions {
        let Ok(named) = named(method) else { continue };
        let gray = study.references.iter().find_map(|reference| {
            let shape = shape_of(reference)?;
            (shape.channels != 3).then_some((&reference.dataset.id, shape.channels))
        });
        if let Some((dataset, channels)) = gray
            && named.corruption.needs_color()
        {
            let problem = format!(
                "{} needs images with 3 channels, and those of {dataset} have {channels}",
                named.condition
            );
            problems.push(SpecError::new("suite", "corruption", problem));
        }
    }
    problems
}

fn found(study: &CheckedStudy, opens_files: bool) -> Vec<SpecError> {
    let attacks = &study.study().suite.attacks;
    let references = &study.study().references;
    let mut problems = of_corruptions(study.study());
    for (index, reference) in references.iter().enumerate() {
        // What is wrong with a reference is wrong with it for every seed.
        if study.repeats(index) {
            continue;
        }
        let place = if references.len() > 1 {
            format!("reference {}", index + 1)
        } else {
            String::new()
        };
        if let Err((field, problem)) = one(reference, &study.study().suite.domains, opens_files) {
            problems.push(SpecError::new(&place, &field, problem));
            // Of data that are not there nobody knows the classes.
            if source(reference).is_some_and(|source| source.check().is_err()) {
                continue;
            }
        }
        if let Some(source) = source(reference)
            && let Some(problem) = impossible(attacks, source.extent().classes)
        {
            problems.push(SpecError::new(&place, "attacks", problem));
        }
    }
    problems
}

/// Where a reference's images come from; nothing when this program does not know it.
fn source(reference: &Reference) -> Option<Box<dyn Source>> {
    let mut all = data::ALL.iter();
    let entry = all.find(|entry| entry.info.id == reference.dataset.id)?;
    Some((entry.build)(&reference.dataset.setting))
}

/// What is wrong with a reference: the field and the problem.
fn one(
    reference: &Reference,
    domains: &[Method],
    opens_files: bool,
) -> Result<(), (String, String)> {
    // What an old session knew and this program does not is said when it is looked for.
    let Some(source) = source(reference) else {
        return Ok(());
    };
    let named = |error: Error| match error {
        Error::Impossible { knob, problem } => (knob, problem),
        other => ("from".to_owned(), other.to_string()),
    };
    if opens_files {
        source.check().map_err(named)?;
        let others = domain::asked(&reference.dataset, domains);
        if others.is_empty() && !domains.is_empty() {
            let problem = format!(
                "none of them is another domain than that of {}; all stands for those that it knows",
                reference.dataset.id
            );
            return Err(("domains".to_owned(), problem));
        }
        for other in others {
            of_domain(&reference.dataset, source.as_ref(), &other).map_err(named)?;
        }
    }
    let mut shape = source.extent().shape;
    if let Some(side) = reference.resize {
        shape = data::enlarged(shape, side as usize).map_err(named)?;
    }
    let saved = match &reference.from {
        Some(from) if opens_files => saved::read(from).map_err(named)?.map(|found| (found, from)),
        _ => None,
    };
    if let Some((found, from)) = saved {
        let (network, asked) = (&found.network, &reference.architecture.id);
        saved::fits(network, from, asked, shape, source.extent().classes).map_err(named)?;
        for branch in &reference.branches {
            suits(branch, &reference.architecture, network).map_err(named)?;
        }
        return Ok(());
    }
    let Some(mut network) = outline(reference, source.as_ref(), shape)? else {
        return Ok(());
    };
    for branch in &reference.branches {
        suits(branch, &reference.architecture, &network).map_err(named)?;
    }
    let Some(from) = &reference.from else {
        return Ok(());
    };
    normalization(from, shape.channels).map_err(named)?;
    if opens_files {
        pretrained::load(&mut network, Path::new(&from.file), from.sha256.as_deref())
            .map_err(|error| named(error.into()))?;
    }
    Ok(())
}

/// Whether networks for a data set can be asked of another.
fn of_domain(own: &Method, source: &dyn Source, other: &Method) -> Result<()> {
    let Some(domain) = domain::source(other) else {
        return Ok(());
    };
    domain.check()?;
    let (shape, needed) = (domain.extent().shape, source.extent().shape);
    if shape != needed {
        let words =
            |shape: ImageShape| format!("{}x{}x{}", shape.channels, shape.height, shape.width);
        let problem = format!(
            "images of {} are {}, those of {} {}",
            domain::name(own, other),
            words(shape),
            own.id,
            words(needed)
        );
        return Err(Error::Impossible {
            knob: "domains".to_owned(),
            problem,
        });
    }
    let (classes, known) = (domain.class_names(), source.class_names());
    if !known.is_empty() && !classes.is_empty() && classes.iter().all(|name| !known.contains(name))
    {
        let name = domain::name(own, other);
        return Err(domain::no_class_in_common(&name, &known, &classes));
    }
    Ok(())
}

/// Whether a branch's first compression can be done for such a network. What a later one meets, the first decides.
fn suits(branch: &Branch, design: &Method, network: &Network) -> Result<()> {
    let first = branch.stages.iter().find_map(|stage| match stage {
        Stage::Compress(method) => Some(method),
        Stage::FineTune(_) => None,
    });
    // What an old session knew and this program does not is said when it is made.
    match first.map(|method| (compression::find(&method.id), &method.setting)) {
        Some((Ok(entry), setting)) => entry.made(setting).suits(design, network),
        _ => Ok(()),
    }
}

/// The network with no weights yet; nothing when this program does not know it.
fn outline(
    reference: &Reference,
    source: &dyn Source,
    shape: ImageShape,
) -> Result<Option<Network>, (String, String)> {
    let asked = &reference.architecture;
    let Some(entry) = architecture::ALL
        .iter()
        .find(|entry| entry.info.id == asked.id)
    else {
        return Ok(None);
    };
    let architecture = (entry.build)(&asked.setting);
    let of = |shape| architecture.outline(shape, source.extent().classes);
    of(shape).map(Some).map_err(|error| {
        let side = shape.height.max(shape.width);
        let squares = (side + 1..=LARGE).find(|&side| {
            let shape = ImageShape {
                height: side,
                width: side,
                ..shape
            };
            of(shape).is_ok()
        });
        let remedy = squares.map_or_else(String::new, |side| {
            format!("; resize {side} makes them large enough")
        });
        ("architecture".to_owned(), format!("{error}{remedy}"))
    })
}

/// Mean and standard deviation that weights came with, one for each channel; nothing when none were given.
///
/// # Errors
/// When there are neither as many as channels nor one for all.
pub fn normalization(from: &Weights, channels: usize) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
    if from.mean.is_empty() {
        return Ok(None);
    }
    let each = |numbers: &[f64]| -> Vec<f32> {
        match numbers {
            [one] => vec![*one as f32; channels],
            several => several.iter().map(|number| *number as f32).collect(),
        }
    };
    let (mean, std) = (each(&from.mean), each(&from.std));
    if mean.len() == channels && std.len() == channels {
        return Ok(Some((mean, std)));
    }
    let plural = if channels == 1 { "" } else { "s" };
    Err(Error::Impossible {
        knob: "mean".into(),
        problem: format!(
            "{} numbers are given for images with {channels} channel{plural}; one for each is needed, or one for all",
            from.mean.len()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab;
    use crate::spec::KnobValue;

    fn said(reference: impl FnOnce(&mut Reference)) -> Vec<String> {
        let mut study = Study::default();
        reference(&mut study.references[0]);
        let study = study.check(&lab::catalog()).unwrap();
        assert_eq!(of_shapes(&study).is_empty(), problems(&study).is_empty());
        problems(&study).iter().map(ToString::to_string).collect()
    }

    fn large_stem() -> Method {
        let stem = KnobValue::Choice("7x7".into());
        let mut method = Method::plain("resnet18");
        method.setting = method.setting.with("stem", stem);
        method
    }

    #[test]
    fn images_too_small_for_a_network_are_known_before_it_runs() {
        assert!(said(|_| {}).is_empty());
        assert_eq!(
            said(|reference| reference.architecture = large_stem()),
            [
                "architecture: resnet18 takes images of at least 32x32 pixels, not 28x28; \
                 resize 32 makes them large enough"
            ]
        );
        let enlarged = said(|reference| {
            reference.architecture = large_stem();
            reference.resize = Some(32);
        });
        assert!(enlarged.is_empty(), "{enlarged:?}");
        assert_eq!(
            said(|reference| reference.resize = Some(8)),
            ["resize: 8 pixels are fewer than the images have, 28x28; they can only be enlarged"]
        );
    }

    #[test]
    fn a_domain_of_other_classes_is_known_before_it_is_loaded() {
        let mut study = Study::default();
        study.suite.domains = vec![Method::plain("usps")];
        let study = study.check(&lab::catalog()).unwrap();
        let said: Vec<String> = problems(&study).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "domains: usps has none of the classes A, B, C, D, E, F, G, H, I, J; it has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
            ]
        );
    }

    #[test]
    fn sets_are_spelled_out_and_leave_out_what_needs_color() {
        let asked = |dataset: &str, words: &[&str]| {
            let mut study = Study::default();
            study.references[0].dataset = Method::plain(dataset);
            study.suite.corruptions = words.iter().map(|word| Method::plain(*word)).collect();
            let study = spelled_out(study);
            assert_eq!(spelled_out(study.clone()), study);
            study.suite.corruptions
        };
        let names = |methods: Vec<Method>| -> Vec<String> {
            methods
                .iter()
                .map(|method| named(method).unwrap().condition)
                .collect()
        };
        assert_eq!(asked("cifar10", &["cifar-10-c"]).len(), 15);
        assert_eq!(asked("cifar10", &["all"]).len(), 23);
        assert_eq!(asked("mnist", &["all"]).len(), 20);
        assert_eq!(
            names(asked(
                "mnist",
                &["document-000", "fog", "random-fog:published"]
            )),
            [
                "gaussian-noise:published",
                "pixel-dropout:published",
                "random-fog:published",
                "fog"
            ]
        );
    }

    #[test]
    fn what_a_set_leaves_out_is_named() {
        let asked = |dataset: &str, word: &str| {
            let mut study = Study::default();
            study.references[0].dataset = Method::plain(dataset);
            study.suite.corruptions = vec![Method::plain(word)];
            left_out(&study)
        };
        assert_eq!(
            asked("mnist", "document-000"),
            ["iso-noise:published", "rgb-shift:published"]
        );
        assert!(asked("cifar10", "document-000").is_empty());
        assert!(asked("mnist", "cifar-10-c").is_empty());
    }

    #[test]
    fn what_needs_color_is_refused_on_gray_images() {
        let mut study = Study::default();
        study.suite.corruptions = vec![corruption::parse("iso-noise:published")];
        study.references[0].dataset = Method::plain("mnist");
        let study = study.check(&lab::catalog()).unwrap();
        let said: Vec<String> = of_shapes(&study).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "suite: corruption: iso-noise:published needs images with 3 channels, and those of mnist have 1"
            ]
        );
    }

    #[test]
    fn knobs_that_contradict_each_other_are_known_too() {
        let said = said(|reference| {
            let mut method = Method::plain("resnet50");
            for (knob, word) in [("head", "keras"), ("stem", "3x3")] {
                method.setting = method.setting.with(knob, KnobValue::Choice(word.into()));
            }
            reference.architecture = method;
        });
        assert_eq!(
            said,
            [
                "architecture: resnet50: head = keras has the stem 7x7, and another one was asked for"
            ]
        );
    }

    #[test]
    fn a_number_for_all_channels_is_one_for_each() {
        let from = |mean: &[f64], std: &[f64]| Weights {
            mean: mean.to_vec(),
            std: std.to_vec(),
            ..Weights::default()
        };
        let found = normalization(&from(&[0.5], &[0.25]), 3).unwrap().unwrap();
        assert_eq!(found, (vec![0.5; 3], vec![0.25; 3]));
        let error = normalization(&from(&[0.5; 2], &[0.25; 2]), 3).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("2 numbers are given for images with 3 channels")
        );
        assert_eq!(normalization(&from(&[], &[]), 3).unwrap(), None);
    }
}
