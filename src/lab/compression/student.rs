//! Students: networks of the reference's own architecture, narrower and shallower, or of another one.
//!
//! A narrower student is the same `Architecture` at another width, found by bisection: parameters never fall as the width
//! grows. Channels come in multiples of 4, so what is reached lies a little beside what was asked for: within
//! [`TOLERANCE`] for every architecture of the table as it stands.

use crate::lab::architecture::{self, Architecture};
use crate::lab::error::{Error, Result};
use crate::nn::ImageShape;
use crate::nn::layer::Layer;
use crate::nn::network::Network;
use crate::spec::{KnobValue, Method, Setting};

use super::Start;

/// The share by which what is reached may miss what was asked for without a word: four channels of LeNet-5's widest
/// layer are 3 % of its parameters, and half of that is the most that it misses; a little more for smaller networks.
pub(super) const TOLERANCE: f64 = 0.02;

/// What of a student is made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shrink {
    Width,
    /// Blocks of every stage by the same share as channels.
    WidthAndDepth,
}

/// The share of the width below which every layer has its fewest channels.
const NARROWEST: f64 = 1e-3;

/// Halvings of an interval of shares: to a millionth, far less than one channel of thousands.
const HALVINGS: u32 = 20;

/// An architecture with its knobs.
fn find(method: &Method) -> Result<&'static crate::catalog::Entry<dyn Architecture>> {
    let entry = architecture::ALL
        .iter()
        .find(|entry| entry.info.id == method.id);
    entry.ok_or_else(|| Error::Internal(format!("architecture {} is not in the table", method.id)))
}

/// An architecture as it stands by itself.
pub(super) fn plain(id: &str) -> Result<Method> {
    let mut method = Method::plain(id);
    for knob in find(&method)?.knobs {
        method.setting = method.setting.with(&knob.id, knob.range.default());
    }
    Ok(method)
}

/// A fresh network for the reference's images, where the reference computes.
pub(super) fn built(start: &Start<'_>, method: &Method, seed: u64) -> Result<Network> {
    let reference = &start.subject.reference()?.last;
    let Some(Layer::Normalize { mean, std }) = reference.nodes().first().map(|node| &node.layer)
    else {
        return Err(Error::Internal(
            "the reference does not begin by normalizing".into(),
        ));
    };
    let architecture = (find(method)?.build)(&method.setting);
    let network = architecture
        .build(reference.input(), reference.classes(), (mean, std), seed)
        .map_err(|error| Error::Impossible {
            knob: "student".into(),
            problem: error.to_string(),
        })?;
    Ok(network.to_device(&reference.device())?)
}

/// A design for images of a shape, and what of it is counted.
struct Design<'a> {
    /// Something that never falls as the network grows: parameters, or multiply-accumulates.
    measure: &'a dyn Fn(&Network) -> f64,
    method: &'a Method,
    input: ImageShape,
    classes: usize,
}

impl Design<'_> {
    /// The design at a share of its own width and depth.
    fn at(&self, width: f64, depth: Option<f64>) -> Method {
        let share = |setting: &Setting, id: &str| match setting.0.get(id) {
            Some(KnobValue::Real(share)) => *share,
            _ => 1.0,
        };
        let mut method = self.method.clone();
        for (id, times) in [("width", Some(width)), ("depth", depth)] {
            if let Some(times) = times {
                let value = KnobValue::Real(times * share(&method.setting, id));
                method.setting = method.setting.with(id, value);
            }
        }
        method
    }

    fn measured(&self, method: &Method) -> Result<f64> {
        let network = (find(method)?.build)(&method.setting).outline(self.input, self.classes)?;
        Ok((self.measure)(&network))
    }

    /// The share in (0, 1] whose design measures nearest to `target`.
    fn nearest(&self, target: f64, of: impl Fn(f64) -> Method) -> Result<f64> {
        let (mut below, mut above) = (NARROWEST, 1.0);
        if self.measured(&of(above))? <= target {
            return Ok(above);
        }
        for _ in 0..HALVINGS {
            let middle = 0.5 * (below + above);
            if self.measured(&of(middle))? <= target {
                below = middle;
            } else {
                above = middle;
            }
        }
        let miss = |share: f64| -> Result<f64> { Ok((self.measured(&of(share))? - target).abs()) };
        let (short, far) = (miss(below)?, miss(above)?);
        Ok(if short <= far { below } else { above })
    }
}

/// The reference's own architecture with that share removed of what is measured, for which no weights are needed.
///
/// # Errors
/// When the architecture has no width or depth to turn, or even its narrowest form has too many parameters.
pub(super) fn shrunk(
    design: &Method,
    room: Room,
    measure: &dyn Fn(&Network) -> f64,
    ratio: f64,
    shrink: Shrink,
) -> Result<Method> {
    let design = Design {
        measure,
        method: design,
        input: room.shape,
        classes: room.classes,
    };
    design.shrunk(ratio, shrink).map(|(method, _)| method)
}

/// What a student must be made for.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub shape: ImageShape,
    pub classes: usize,
}

impl Room {
    /// As a network has it.
    pub(super) fn of(network: &Network) -> Self {
        Self {
            shape: network.input(),
            classes: network.classes(),
        }
    }
}

/// The shapes of an architecture, without weights.
pub(super) fn outline(method: &Method, shape: ImageShape, classes: usize) -> Result<Network> {
    (find(method)?.build)(&method.setting)
        .outline(shape, classes)
        .map_err(|error| Error::Impossible {
            knob: "student".into(),
            problem: error.to_string(),
        })
}

impl Design<'_> {
    /// The design with that share removed, and the share that is reached.
    fn shrunk(&self, ratio: f64, shrink: Shrink) -> Result<(Method, f64)> {
        let entry = find(self.method)?;
        let impossible = |knob: &str, problem: String| Error::Impossible {
            knob: knob.into(),
            problem,
        };
        let has = |id: &str| entry.knobs.iter().any(|knob| knob.id == id);
        let id = &entry.info.id;
        if !has("width") {
            let problem = format!("{id} has no width to solve for; another architecture's name");
            return Err(impossible("student", problem));
        }
        if shrink == Shrink::WidthAndDepth && !has("depth") {
            let problem = format!("{id} has no depth to solve for; width alone");
            return Err(impossible("shrink", problem));
        }
        let whole = self.measured(self.method)?;
        let target = (1.0 - ratio) * whole;
        let depth = match shrink {
            Shrink::Width => None,
            Shrink::WidthAndDepth => {
                Some(self.nearest(target, |share| self.at(share, Some(share)))?)
            }
        };
        let width = self.nearest(target, |share| self.at(share, depth))?;
        let method = self.at(width, depth);
        let reached = 1.0 - self.measured(&method)? / whole;
        let most = 1.0 - self.measured(&self.at(NARROWEST, depth))? / whole;
        if most + TOLERANCE < ratio {
            let problem = format!(
                "{id} can lose {:.1} % at most, not {:.1} %",
                100.0 * most,
                100.0 * ratio
            );
            return Err(impossible("ratio", problem));
        }
        Ok((method, reached))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shrunk(id: &str, ratio: f64, shrink: Shrink) -> Result<(Method, f64)> {
        let method = plain(id)?;
        let design = Design {
            measure: &|network| network.parameters().count() as f64,
            method: &method,
            input: ImageShape {
                channels: 3,
                height: 32,
                width: 32,
            },
            classes: 10,
        };
        design.shrunk(ratio, shrink)
    }

    /// The ratios of document 000.
    #[test]
    fn students_have_the_parameters_that_were_asked_for() {
        for entry in architecture::ALL {
            for (id, shrink) in [("width", Shrink::Width), ("depth", Shrink::WidthAndDepth)] {
                // The tree's depth is another one, and the deepest residual networks are built as one with 50 layers is.
                let is_told = ["soft-decision-tree", "resnet101", "resnet152"];
                if is_told.contains(&&*entry.info.id)
                    || entry.knobs.iter().all(|knob| knob.id != id)
                {
                    continue;
                }
                for ratio in [0.1, 0.4, 0.6, 0.75, 0.9] {
                    let (method, reached) = shrunk(&entry.info.id, ratio, shrink).unwrap();
                    let what = format!("{} {ratio} {shrink:?}: {reached}", entry.info.id);
                    assert!((reached - ratio).abs() <= TOLERANCE, "{what}");
                    assert_eq!(method.id, entry.info.id);
                }
            }
        }
    }

    #[test]
    fn nothing_is_removed_where_nothing_is_asked_for() {
        let (method, reached) = shrunk("resnet18", 0.0, Shrink::WidthAndDepth).unwrap();
        assert_eq!(reached, 0.0);
        assert_eq!(method.setting.real("width"), 1.0);
        let (method, _) = shrunk("resnet18", 0.75, Shrink::WidthAndDepth).unwrap();
        assert!(method.setting.real("depth") < 0.75, "{method:?}");
    }

    #[test]
    fn what_cannot_be_solved_for_is_refused_in_one_sentence() {
        let said = |id, shrink| shrunk(id, 0.4, shrink).unwrap_err().to_string();
        assert_eq!(
            said("soft-decision-tree", Shrink::Width),
            "student: soft-decision-tree has no width to solve for; another architecture's name"
        );
        assert_eq!(
            said("lenet5", Shrink::WidthAndDepth),
            "shrink: lenet5 has no depth to solve for; width alone"
        );
        let narrow = Method {
            setting: Setting::default().with("width", KnobValue::Real(0.1)),
            ..Method::plain("lenet5")
        };
        let design = Design {
            measure: &|network| network.parameters().count() as f64,
            method: &narrow,
            input: ImageShape {
                channels: 1,
                height: 28,
                width: 28,
            },
            classes: 10,
        };
        let error = design.shrunk(0.99, Shrink::Width).unwrap_err().to_string();
        assert!(error.starts_with("ratio: lenet5 can lose "), "{error}");
    }
}
