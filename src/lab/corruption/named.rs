//! Corruptions as a study names them: with their variant, alone or as published sets.

use super::{ALL, Corruption};
use crate::catalog::completed;
use crate::lab::error::{Error, Result};
use crate::spec::{KnobValue, Method};

/// What a study is measured under when it names none.
pub const USUAL: [&str; 5] = [
    "gaussian-noise",
    "defocus-blur",
    "brightness",
    "contrast",
    "pixel-dropout",
];

/// A published set of corruptions.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    pub id: &'static str,
    /// One sentence: whose it is.
    pub summary: &'static str,
    /// Ids, with their variant where that is not the usual one.
    pub members: &'static [&'static str],
}

/// Sets that can be named in the place of their members.
pub const SETS: &[Set] = &[
    Set {
        id: "cifar-10-c",
        summary: "the fifteen of CIFAR-10-C (arXiv:1903.12261)",
        members: &[
            "gaussian-noise",
            "shot-noise",
            "impulse-noise",
            "defocus-blur",
            "glass-blur",
            "motion-blur",
            "zoom-blur",
            "snow",
            "frost",
            "fog",
            "brightness",
            "contrast",
            "elastic-transform",
            "pixelate",
            "jpeg-compression",
        ],
    },
    Set {
        id: "cifar-10-c-extra",
        summary: "the four that CIFAR-10-C has beside them",
        members: &["speckle-noise", "gaussian-blur", "spatter", "saturate"],
    },
    Set {
        id: "document-000",
        summary: "the five of \"Analyzing the robustness of model compression techniques to noise\", as published",
        members: &[
            "gaussian-noise:published",
            "iso-noise:published",
            "rgb-shift:published",
            "pixel-dropout:published",
            "random-fog:published",
        ],
    },
    Set {
        id: "document-000-corrected",
        summary: "the same five, visible on small images in five severities",
        members: &[
            "gaussian-noise:corrected",
            "iso-noise",
            "rgb-shift",
            "pixel-dropout",
            "random-fog",
        ],
    },
    Set {
        id: "all",
        summary: "every corruption, in its usual variant",
        members: &[
            "gaussian-noise",
            "shot-noise",
            "impulse-noise",
            "defocus-blur",
            "glass-blur",
            "motion-blur",
            "zoom-blur",
            "snow",
            "frost",
            "fog",
            "brightness",
            "contrast",
            "elastic-transform",
            "pixelate",
            "jpeg-compression",
            "speckle-noise",
            "gaussian-blur",
            "spatter",
            "saturate",
            "iso-noise",
            "rgb-shift",
            "pixel-dropout",
            "random-fog",
        ],
    },
];

/// What somebody typed: `fog`, or with a variant `random-fog:published`.
pub fn parse(typed: &str) -> Method {
    match typed.split_once(':') {
        Some((id, variant)) => {
            let mut method = Method::plain(id);
            let value = KnobValue::Choice(variant.to_owned());
            method.setting = method.setting.with("variant", value);
            method
        }
        None => Method::plain(typed),
    }
}

/// A corruption as a study has it.
pub struct Named {
    /// Its condition in findings, and the stream that it draws from: the id, and the variant where it is not the usual one.
    pub condition: String,
    pub corruption: Box<dyn Corruption>,
}

/// The corruption of a method, with the knobs that a session of an earlier version leaves out where they stand by
/// themselves.
///
/// # Errors
/// When the id is not in the table, which checking excludes.
pub fn named(method: &Method) -> Result<Named> {
    let entry = ALL
        .iter()
        .find(|entry| entry.info.id == method.id)
        .ok_or_else(|| Error::Internal(format!("corruption {} is not in the table", method.id)))?;
    let setting = completed(&method.setting, entry.knobs);
    let turned: Vec<String> = entry
        .knobs
        .iter()
        .filter_map(|knob| {
            let value = setting.0.get(&*knob.id)?;
            (*value != knob.range.default()).then(|| value.to_string())
        })
        .collect();
    let mut parts = vec![method.id.clone()];
    parts.extend(turned);
    Ok(Named {
        condition: parts.join(":"),
        corruption: (entry.build)(&setting),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_of_a_set_and_every_usual_one_is_known() {
        for member in SETS.iter().flat_map(|set| set.members).chain(&USUAL) {
            assert_eq!(named(&parse(member)).unwrap().condition, **member);
        }
        let all = SETS.iter().find(|set| set.id == "all").unwrap();
        let table: Vec<&str> = ALL.iter().map(|entry| &*entry.info.id).collect();
        assert_eq!(all.members, table);
        let size = |id: &str| SETS.iter().find(|set| set.id == id).unwrap().members.len();
        assert_eq!((size("cifar-10-c"), size("document-000")), (15, 5));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = named(&Method::plain("rain")).err().unwrap();
        assert!(error.to_string().contains("rain"));
    }
}
