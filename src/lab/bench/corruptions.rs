//! How long every corruption takes for so many color images of 32x32 pixels.

use crate::lab::corruption::{ALL, SETS, corrupted_set, named, parse};
use crate::lab::data::Examples;
use crate::lab::error::Result;
use crate::nn::ImageShape;
use crate::nn::rng::Rng;

/// One corruption over all images, at each of its severities.
#[derive(Clone, Debug, PartialEq)]
pub struct CorruptionPace {
    pub condition: String,
    /// Whether it is one of the fifteen of CIFAR-10-C.
    pub is_of_fifteen: bool,
    /// Seconds at each severity.
    pub seconds: Vec<f64>,
}

/// Random images; what a corruption does hardly depends on what is on them.
fn images(count: usize) -> Examples {
    let shape = ImageShape {
        channels: 3,
        height: 32,
        width: 32,
    };
    let mut rng = Rng::stream(0, "bench corruptions", &[]);
    Examples {
        shape,
        images: (0..count * shape.values())
            .map(|_| rng.bits() as u8)
            .collect(),
        labels: vec![0; count],
        groups: Vec::new(),
    }
}

/// Times every corruption in its usual variant; `timed` says how long a piece of work takes.
pub(super) fn all(
    count: usize,
    timed: &mut dyn FnMut(&mut dyn FnMut()) -> f64,
) -> Result<Vec<CorruptionPace>> {
    let images = images(count);
    let fifteen = SETS.first().map_or(&[][..], |set| set.members);
    let mut paces = Vec::new();
    for entry in ALL {
        let named = named(&parse(&entry.info.id))?;
        let mut corrupt = |severity| {
            timed(&mut || {
                corrupted_set(&*named.corruption, &named.condition, &images, severity, 0);
            })
        };
        let severities = named.corruption.severities().iter();
        paces.push(CorruptionPace {
            is_of_fifteen: fifteen.contains(&&*named.condition),
            seconds: severities.map(|severity| corrupt(*severity)).collect(),
            condition: named.condition.clone(),
        });
    }
    Ok(paces)
}
