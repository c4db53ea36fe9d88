//! What the live knob, or a search for a branch's strength, found at one setting.

use serde::{Deserialize, Serialize};

use crate::measurement::{Metric, Score};
use crate::spec::{Method, NetworkId};

/// What came out when the live knob stood at a setting: a finished reference compressed anew, without training, and
/// looked at on a few fixed validation images. The record takes at most a kilobyte.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Which reference of the study, counted from 0.
    pub reference: u32,
    /// The compression, with the knobs that stand elsewhere than by themselves.
    pub method: Method,
    /// Validation images that were looked at, under each condition.
    pub n: u64,
    /// Right answers under each condition, clean images first.
    pub hits: Vec<TrialHits>,
    /// Images on which it answers as its reference does.
    pub same: u64,
    /// Its size.
    pub sizes: Vec<(Metric, Score)>,
    /// Roots of mean Jensen-Shannon divergences from finished networks of the study.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distances: Vec<(NetworkId, Score)>,
    /// Why the setting could not be tried; then the rest is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Right answers of a trial under one condition, beside its reference's on the same images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    from = "(Option<String>, Option<u8>, u64, u64, u64)",
    into = "(Option<String>, Option<u8>, u64, u64, u64)"
)]
pub struct TrialHits {
    /// A corruption's id; nothing for clean images.
    pub condition: Option<String>,
    pub severity: Option<u8>,
    /// Of the trial, of the reference, and of both on the same image.
    pub own: u64,
    pub reference: u64,
    pub both: u64,
}

type WrittenHits = (Option<String>, Option<u8>, u64, u64, u64);

impl From<TrialHits> for WrittenHits {
    fn from(hits: TrialHits) -> Self {
        (
            hits.condition,
            hits.severity,
            hits.own,
            hits.reference,
            hits.both,
        )
    }
}

impl From<WrittenHits> for TrialHits {
    fn from((condition, severity, own, reference, both): WrittenHits) -> Self {
        Self {
            condition,
            severity,
            own,
            reference,
            both,
        }
    }
}
