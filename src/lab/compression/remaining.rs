//! What the weights that a pruning leaves are: as they were trained, as they began, or new ones.

use crate::catalog::{Text, text};
use crate::lab::compression::Start;
use crate::lab::error::{Error, Result};
use crate::nn::network::Network;
use crate::nn::rng::Rng;

/// What the weights that stay are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    Kept,
    Rewound,
    Scratch,
}

/// The words of the knob `weights`.
pub(super) const WEIGHTS: &[Text] = &[text("kept"), text("rewound"), text("scratch")];

impl Weights {
    pub(super) fn new(word: &str) -> Self {
        match word {
            "rewound" => Self::Rewound,
            "scratch" => Self::Scratch,
            _ => Self::Kept,
        }
    }

    /// The network whose weights a pruned one takes, with all its channels; none where it keeps its own.
    ///
    /// # Errors
    /// When the reference's initial weights do not fit, because an earlier compression changed the layers.
    pub(super) fn origin(self, start: &Start<'_>) -> Result<Option<Network>> {
        match self {
            Self::Kept => Ok(None),
            Self::Scratch => {
                let plan = start.subject.network;
                let seed = Rng::stream(plan.init_seed, "scratch", &[plan.id.0.into()]).bits();
                Ok(Some(start.network.redrawn(seed)?))
            }
            Self::Rewound => {
                let reference = start.subject.reference()?;
                let initial = reference.initial.as_ref().ok_or_else(|| {
                    Error::Internal(format!(
                        "the initial weights of {} were not kept",
                        reference.plan.name
                    ))
                })?;
                let shapes = |network: &Network| -> Vec<_> {
                    let parameters = network.parameters().iter();
                    parameters
                        .map(|p| (p.name.clone(), p.value.dims().to_vec()))
                        .collect()
                };
                if shapes(initial) != shapes(start.network) {
                    return Err(Error::Impossible {
                        knob: "weights".to_owned(),
                        problem: "rewound needs the reference's own layers, which a compression before this one changed; \
                                  kept and scratch do not"
                            .to_owned(),
                    });
                }
                Ok(Some(initial.duplicate()?))
            }
        }
    }

    /// For the remarks.
    pub(super) fn remark(self) -> Option<String> {
        match self {
            Self::Kept => None,
            Self::Rewound => Some("what stays has its initial weights back".to_owned()),
            Self::Scratch => Some("what stays has new random weights".to_owned()),
        }
    }
}
