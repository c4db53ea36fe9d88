//! The table of measurements as comma-separated values, RFC 4180: lines end in CR LF, fields that need it are quoted.

use serde_json::Value;

use super::Report;
use super::table;
use crate::state::plain;

/// The columns, after `session` where several sessions are joined.
const COLUMNS: [&str; 16] = [
    "network",
    "role",
    "stage",
    "epoch",
    "probe",
    "metric",
    "condition",
    "severity",
    "against",
    "value",
    "unit",
    "low",
    "high",
    "n",
    "deviation_percent",
    "budget",
];

pub(super) fn render(report: &Report<'_>) -> String {
    let mut columns = COLUMNS.to_vec();
    if report.chapters.len() > 1 {
        columns.insert(0, "session");
    }
    let mut text = columns.join(",") + "\r\n";
    for row in table::rows(report) {
        let row = serde_json::to_value(&row).expect("a row is always JSON");
        let fields: Vec<String> = columns
            .iter()
            .map(|column| field(row.get(*column).unwrap_or(&Value::Null)))
            .collect();
        text += &fields.join(",");
        text += "\r\n";
    }
    text
}

fn field(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => plain(text),
        // 225034.0 is a count.
        Value::Number(number) => match number.as_f64() {
            Some(number) => number.to_string(),
            None => number.to_string(),
        },
        other => other.to_string(),
    };
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_as_the_standard_asks() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "two\\nlines"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
        ] {
            assert_eq!(field(&Value::from(text)), expected);
        }
        assert_eq!(field(&Value::from(225_034.0)), "225034");
        assert_eq!(field(&Value::from(0.1)), "0.1");
        assert_eq!(field(&Value::Null), "");
    }
}
