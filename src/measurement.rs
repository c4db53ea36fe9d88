//! What was found: a number or a shape, with its unit, its direction, its n and its interval.
//!
//! Probes return shapes and widgets draw shapes; neither knows the other.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::spec::NetworkId;

/// A number that survives being written down: not-finite values are spelled `"nan"`, `"inf"` and `"-inf"`.
///
/// Plain JSON writes them as `null` and refuses to read them back.
/// Two scores are equal when they are the same number or both not a number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score(pub f64);

impl Score {
    /// The shortest decimal that is this `f32`, so that `0.1_f32` is written `0.1` and not `0.10000000149`.
    pub fn short(value: f32) -> Self {
        Self(if value.is_finite() {
            value.to_string().parse().unwrap_or(f64::from(value))
        } else {
            f64::from(value)
        })
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || (self.0.is_nan() && other.0.is_nan())
    }
}

impl From<f64> for Score {
    fn from(value: f64) -> Self {
        Self(value)
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else if self.0.is_nan() {
            serializer.serialize_str("nan")
        } else {
            serializer.serialize_str(if self.0 > 0.0 { "inf" } else { "-inf" })
        }
    }
}

impl<'de> Deserialize<'de> for Score {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScoreVisitor;
        impl Visitor<'_> for ScoreVisitor {
            type Value = Score;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"nan\", \"inf\" or \"-inf\"")
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Score, E> {
                Ok(Score(v))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Score, E> {
                Ok(Score(v as f64))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Score, E> {
                Ok(Score(v as f64))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Score, E> {
                match v {
                    "nan" => Ok(Score(f64::NAN)),
                    "inf" => Ok(Score(f64::INFINITY)),
                    "-inf" => Ok(Score(f64::NEG_INFINITY)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(v), &self)),
                }
            }
        }
        deserializer.deserialize_any(ScoreVisitor)
    }
}

/// The 97.5 % point of the standard normal distribution, for two-sided intervals of 95 %.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % score interval for a share of `hits` in `n`, both ends within [0, 1].
///
/// (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n); Wilson 1927. Unlike p ± z√(p(1-p)/n) it holds at 0 and 1.
/// With no examples nothing is known: (0, 1).
pub fn wilson(hits: u64, n: u64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (count, share) = (n as f64, hits as f64 / n as f64);
    let z2 = Z_95 * Z_95;
    let center = share + z2 / (2.0 * count);
    let half = Z_95 * (share * (1.0 - share) / count + z2 / (4.0 * count * count)).sqrt();
    let scale = 1.0 + z2 / count;
    // The ends are exact where rounding would miss them.
    let low = if hits == 0 {
        0.0
    } else {
        (center - half) / scale
    };
    let high = if hits == n {
        1.0
    } else {
        (center + half) / scale
    };
    (low, high)
}

/// What the number is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A share in [0, 1].
    Fraction,
    /// Natural-logarithm units of information.
    Nats,
    /// A plain count: parameters, multiply-accumulates.
    Count,
    Bytes,
    Milliseconds,
    ImagesPerSecond,
    /// Steps of 255.
    GreyLevels,
    Decibels,
    /// No unit: coordinates of a map, ratios.
    None,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    HigherIsBetter,
    LowerIsBetter,
    Neutral,
}

/// What the number is of. The names are permanent: reports and other programs read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Accuracy,
    Error,
    Agreement,
    ChurnGood,
    ChurnBad,
    ChurnUgly,
    Js,
    /// Outputs of convolutions; without any, of the linear layers before the last.
    Channels,
    Parameters,
    Nonzero,
    Macs,
    Bytes,
    /// All values as 32-bit floats.
    BytesDense,
    /// Weights as a bitmask and the values that are not 0.
    BytesBitmask,
    /// Weights in compressed sparse rows.
    BytesCsr,
    /// Of the file that holds each tensor in its smallest form, with names, shapes, masks and statistics.
    BytesWritten,
    LatencyMsP50,
    LatencyMsP10,
    LatencyMsP90,
    Throughput,
    /// A shape without a single number: the functional landscape's rows and maps.
    Landscape,
    /// Whether a branch lies nearer to its reference than a twin does.
    NearerThanTwin,
    /// Under an attack, after its images were rounded to bytes.
    AccuracyRounded,
    /// Of an attack that looks for the nearest error, over the images where it found one.
    DistanceMean,
    DistanceMedian,
    /// On images that were made against another network, the one it is stated against.
    TransferAccuracy,
    /// Whether robustness is only that of gradients.
    GradientMasking,
    /// Mean over corruptions of the mean error over their severities. No yardstick: not the mCE.
    MeanCorruptionError,
    /// Mean over corruptions of the error summed over severities, as a multiple of the reference's.
    RelativeCorruptionError,
    /// The same of the errors beyond the clean error of each network.
    RelativeMce,
    /// How far a corruption moves the values, in grey levels of 255.
    MeanAbsoluteChange,
    /// Peak signal-to-noise ratio of a corruption, in decibels; infinite where it changes nothing.
    Psnr,
}

impl Metric {
    /// Every metric, in the order of the table of measurements.
    pub const ALL: [Self; 32] = [
        Self::Accuracy,
        Self::Error,
        Self::Agreement,
        Self::ChurnGood,
        Self::ChurnBad,
        Self::ChurnUgly,
        Self::Js,
        Self::Channels,
        Self::Parameters,
        Self::Nonzero,
        Self::Macs,
        Self::Bytes,
        Self::BytesDense,
        Self::BytesBitmask,
        Self::BytesCsr,
        Self::BytesWritten,
        Self::LatencyMsP50,
        Self::LatencyMsP10,
        Self::LatencyMsP90,
        Self::Throughput,
        Self::Landscape,
        Self::NearerThanTwin,
        Self::AccuracyRounded,
        Self::DistanceMean,
        Self::DistanceMedian,
        Self::TransferAccuracy,
        Self::GradientMasking,
        Self::MeanCorruptionError,
        Self::RelativeCorruptionError,
        Self::RelativeMce,
        Self::MeanAbsoluteChange,
        Self::Psnr,
    ];

    /// The name in reports and sessions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Error => "error",
            Self::Agreement => "agreement",
            Self::ChurnGood => "churn_good",
            Self::ChurnBad => "churn_bad",
            Self::ChurnUgly => "churn_ugly",
            Self::Js => "js",
            Self::Channels => "channels",
            Self::Parameters => "parameters",
            Self::Nonzero => "nonzero",
            Self::Macs => "macs",
            Self::Bytes => "bytes",
            Self::BytesDense => "bytes_dense",
            Self::BytesBitmask => "bytes_bitmask",
            Self::BytesCsr => "bytes_csr",
            Self::BytesWritten => "bytes_written",
            Self::LatencyMsP50 => "latency_ms_p50",
            Self::LatencyMsP10 => "latency_ms_p10",
            Self::LatencyMsP90 => "latency_ms_p90",
            Self::Throughput => "throughput",
            Self::Landscape => "landscape",
            Self::NearerThanTwin => "nearer_than_twin",
            Self::AccuracyRounded => "accuracy_rounded",
            Self::DistanceMean => "distance_mean",
            Self::DistanceMedian => "distance_median",
            Self::TransferAccuracy => "transfer_accuracy",
            Self::GradientMasking => "gradient_masking",
            Self::MeanCorruptionError => "mean_corruption_error",
            Self::RelativeCorruptionError => "relative_corruption_error",
            Self::RelativeMce => "relative_mce",
            Self::MeanAbsoluteChange => "mean_absolute_change",
            Self::Psnr => "psnr",
        }
    }

    /// Whether a number of this metric differs from run to run because it reads the clock.
    pub fn reads_the_clock(self) -> bool {
        matches!(
            self,
            Self::LatencyMsP50 | Self::LatencyMsP10 | Self::LatencyMsP90 | Self::Throughput
        )
    }
}

/// One point of a map: a network at an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapPoint {
    pub network: NetworkId,
    /// Epochs that this network had been trained for; 0 is before its first.
    pub epoch: u32,
    pub x: Score,
    pub y: Score,
}

/// What a paired comparison with the twins says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The branch's function is nearer to its reference than the nearest twin's is.
    Nearer,
    /// It is farther.
    Farther,
    /// The interval holds zero, or there are too few twins to say.
    Undecided,
}

/// How gradients went back through rounded values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Through {
    StraightThrough,
    /// As they are: nothing.
    None,
    AsTheSimulator,
}

impl Through {
    /// In words, as it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::StraightThrough => "straight-through",
            Self::None => "none",
            Self::AsTheSimulator => "as-the-simulator",
        }
    }
}

/// Whether a network's robustness is only that of its gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Masking {
    /// At least one check fails: attacks by gradients do not find the errors that there are.
    Masked,
    /// All checks pass.
    NotMasked,
    /// None fails, and at least one has too few images to say.
    Inconclusive,
}

impl Masking {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Masked => "masked",
            Self::NotMasked => "not masked",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// How a check of the gradients ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    Passed,
    Failed,
    Unclear,
}

/// One check of the gradients, with the two numbers that it compares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskingCheck {
    /// Kebab-case and permanent: `one-step-stronger`.
    pub id: String,
    /// What is suspicious, in a few words.
    pub title: String,
    pub outcome: CheckOutcome,
    /// What the numbers are, and the numbers; shares of the images that were right.
    pub names: [String; 2],
    pub numbers: [Score; 2],
    /// p of the exact test where the numbers are paired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<Score>,
}

/// The shapes that a finding can have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    Scalar(Score),
    /// One new row of a growing lower-triangular distance matrix: the distances of a new point (its network and
    /// epoch are the measurement's) to all points before it, in the order in which they joined.
    Row(Vec<Score>),
    /// Coordinates in the plane of all points so far. `method` is `mds`, `pca` or `t-sne`.
    Scatter {
        method: String,
        points: Vec<MapPoint>,
    },
    /// d = JS(branch, reference) - min over twins JS(twin, reference), in nats, with its bootstrap interval in the
    /// measurement.
    Verdict {
        verdict: Verdict,
        difference: Score,
        twins: u32,
    },
    /// Whether gradients tell the truth, with every check that was made.
    Masking {
        verdict: Masking,
        checks: Vec<MaskingCheck>,
    },
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The probe's id.
    pub probe: String,
    pub metric: Metric,
    /// The network that was measured.
    pub network: NetworkId,
    /// Which of the network's stages had just ended, counted from 0 over the stages of its plan.
    pub stage: u32,
    /// Epochs that the network had been trained for when it was measured.
    pub epoch: u32,
    /// The network it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<NetworkId>,
    /// Under which condition: a corruption's id, with its variant where that is not the usual one (`random-fog:published`), or `batch-256` for a latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// 1 to 5 where the condition is a corruption that has severities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<u8>,
    pub value: Value,
    pub unit: Unit,
    pub direction: Direction,
    /// How far an attack may go: ε in pixels, which lie in [0, 1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Score>,
    /// 95 % interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<(Score, Score)>,
    /// How many examples or repetitions the number rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// For an accuracy: how the network differs from its reference on the same examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired: Option<Paired>,
    /// How an attack's gradients went back through rounded activations, where the network has such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimator: Option<Through>,
}

/// How a candidate and its reference differ on the same examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paired {
    /// Examples that the reference alone gets right.
    pub reference_only: u64,
    /// Examples that the candidate alone gets right.
    pub candidate_only: u64,
}

impl Measurement {
    /// The number, where the finding is one.
    pub fn scalar(&self) -> Option<f64> {
        match &self.value {
            Value::Scalar(score) => Some(score.0),
            Value::Row(_)
            | Value::Scatter { .. }
            | Value::Verdict { .. }
            | Value::Masking { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_that_is_not_finite_survives_being_written() {
        for value in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.1,
            -0.0,
            5e-324,
            f64::MAX,
        ] {
            let written = serde_json::to_string(&Score(value)).unwrap();
            let read: Score = serde_json::from_str(&written).unwrap();
            assert_eq!(read, Score(value), "{written}");
        }
        assert!(serde_json::from_str::<Score>("null").is_err());
    }

    #[test]
    fn an_f32_is_written_short() {
        assert_eq!(serde_json::to_string(&Score::short(0.1)).unwrap(), "0.1");
        assert_eq!(
            serde_json::to_string(&Score::short(f32::NAN)).unwrap(),
            "\"nan\""
        );
    }

    /// The names are a promise to whoever reads a report.
    #[test]
    fn metric_names_are_pinned() {
        let names: Vec<&str> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(
            names[..20].join(", "),
            "accuracy, error, agreement, churn_good, churn_bad, churn_ugly, js, channels, parameters, nonzero, macs, bytes, \
             bytes_dense, bytes_bitmask, bytes_csr, bytes_written, latency_ms_p50, latency_ms_p10, latency_ms_p90, throughput"
        );
        for metric in Metric::ALL {
            let written = serde_json::to_string(&metric).unwrap();
            assert_eq!(written, format!("\"{}\"", metric.name()));
        }
    }
}
