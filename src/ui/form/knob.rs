//! The row of a knob, from its range and where it stands.

use super::rows::{Kind, Row, word};
use super::{Place, is_number, standing};
use crate::catalog::{Described, Knob, Range};
use crate::spec::{KnobValue, Setting};
use crate::ui::figure;

/// The row of a knob.
pub(super) fn knob_row(place: Place, knob: &Knob, setting: &Setting) -> Row {
    let value = standing(setting, knob);
    let number = match &value {
        KnobValue::Integer(v) => Some(*v as f64),
        KnobValue::Real(v) => Some(*v),
        KnobValue::Flag(_) | KnobValue::Choice(_) | KnobValue::List(_) => None,
    };
    let kind = match &knob.range {
        range if is_number(range) => Kind::Number {
            slider: number.and_then(|v| slider(&knob.range, v)),
        },
        Range::Flag { .. } => Kind::Flag,
        Range::Text { .. } => Kind::Fixed,
        _ => Kind::Choice,
    };
    let is_label_capital = !matches!(place, Place::Knob(..));
    Row {
        label: if is_label_capital && knob.id == "epochs" {
            "Epochs".to_owned()
        } else {
            knob.id.to_string()
        },
        value: match &value {
            KnobValue::Flag(on) => word(*on),
            other => other.to_string(),
        },
        kind,
        note: match &knob.range {
            Range::Text { .. } => format!("by --set {}=…", knob.id),
            _ => String::new(),
        },
        errors: Vec::new(),
        is_inner: !(is_label_capital && knob.id == "epochs"),
        place,
    }
}

/// `3 branches`, for a list of three.
pub(super) fn several(value: &str) -> String {
    format!("{} branches", value.split(',').count())
}

/// A slider is drawn where all of the range can be pictured in it: shares.
fn slider(range: &Range, value: f64) -> Option<f64> {
    match range {
        Range::Real { least, most, .. } if *least >= 0.0 && *most <= 1.0 && most > least => {
            Some(((value - least) / (most - least)).clamp(0.0, 1.0)).filter(|v| v.is_finite())
        }
        _ => None,
    }
}

/// `50 % of weights removed`; for several, how many branches they make.
pub(super) fn removed(value: &str, method: &Described) -> String {
    let counts = method.info.ratio_of.as_deref().unwrap_or("parameters");
    if value.contains(',') {
        return format!("{}, of {counts}", several(value));
    }
    match value.parse::<f64>() {
        Ok(ratio) if ratio.is_finite() => {
            format!(
                "{} % of {counts} removed",
                figure::digits(ratio * 100.0, 3).trim_end_matches(".0")
            )
        }
        _ => format!("of {counts}"),
    }
}
