//! Domains: images of the same classes that look otherwise, of which networks are asked without having learned them.
//!
//! A domain is a data set. Its test images are asked, or all of it where it is split by nobody else; its classes are found
//! by their names, and images of classes that the networks were not trained for are left out and counted.

use crate::event::Warning;
use crate::lab::data::{self, Dataset, Examples, Source};
use crate::lab::error::{Error, Result};
use crate::spec::{ALL_DOMAINS, KnobValue, Method};

/// Images of another domain.
#[derive(Clone, Debug)]
pub struct Domain {
    /// The condition under which it is found in what was measured: `usps`, `chalk`.
    pub name: String,
    pub examples: Examples,
}

/// The data sets of which the networks trained on `own` are asked; `own` itself is none of them.
pub fn asked(own: &Method, domains: &[Method]) -> Vec<Method> {
    let mut all: Vec<Method> = Vec::new();
    for domain in domains {
        let these = match source(own) {
            Some(source) if domain.id == ALL_DOMAINS => source.siblings(&own.setting),
            _ => vec![domain.clone()],
        };
        for method in these {
            if method != *own && !all.contains(&method) {
                all.push(method);
            }
        }
    }
    all
}

/// The source of a data set that this program knows.
pub fn source(dataset: &Method) -> Option<Box<dyn Source>> {
    let entry = data::ALL.iter().find(|entry| entry.info.id == dataset.id)?;
    Some(entry.made(&dataset.setting))
}

/// What a domain is called beside `own`: what tells it apart.
pub fn name(own: &Method, domain: &Method) -> String {
    match domain.setting.0.get("domain") {
        Some(KnobValue::Choice(word)) if domain.id == own.id => word.clone(),
        _ => domain.id.clone(),
    }
}

/// What is wrong with a domain of which a network knows nothing.
pub fn no_class_in_common(name: &str, known: &[String], classes: &[String]) -> Error {
    Error::Impossible {
        knob: "domains".to_owned(),
        problem: format!(
            "{name} has none of the classes {}; it has {}",
            known.join(", "),
            classes.join(", ")
        ),
    }
}

/// The images of a domain that a network for `data` can be asked, with a warning where some had to be left out.
///
/// # Errors
/// [`Error::Impossible`] when they have another shape or no class in common.
pub fn fitted(
    name: &str,
    source: &dyn Source,
    domain: Dataset,
    data: &Dataset,
) -> Result<(Domain, Option<Warning>)> {
    let impossible = |problem: String| Error::Impossible {
        knob: "domains".to_owned(),
        problem,
    };
    let (shape, own) = (domain.test.shape, data.test.shape);
    if shape != own {
        let words = |shape: crate::nn::ImageShape| {
            format!("{}x{}x{}", shape.channels, shape.height, shape.width)
        };
        let problem = format!("images of {name} are {}, not {}", words(shape), words(own));
        return Err(impossible(problem));
    }
    let mut examples = domain.test;
    if source.is_asked_whole() {
        examples.images.extend(domain.train.images);
        examples.labels.extend(domain.train.labels);
        examples.groups.clear();
    }
    let labels: Vec<Option<u32>> = domain
        .classes
        .iter()
        .map(|class| {
            let at = data.classes.iter().position(|own| own == class);
            at.map(|at| at as u32)
        })
        .collect();
    let label = |at: usize| labels.get(examples.labels[at] as usize).copied().flatten();
    let known: Vec<usize> = (0..examples.len())
        .filter(|at| label(*at).is_some())
        .collect();
    if known.is_empty() {
        return Err(no_class_in_common(name, &data.classes, &domain.classes));
    }
    let left_out = examples.len() - known.len();
    let warning = (left_out > 0).then(|| Warning::Other {
        message: format!(
            "{left_out} images of {name} are of classes that the networks were not trained for, and are left out"
        ),
    });
    let mut fitted = examples.select(&known);
    fitted.labels = known.iter().filter_map(|at| label(*at)).collect();
    let domain = Domain {
        name: name.to_owned(),
        examples: fitted,
    };
    Ok((domain, warning))
}
