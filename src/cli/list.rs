//! `shrinklab list`: what the lab knows.
//!
//! What an architecture costs is said for a color image of 32x32 pixels and ten classes. "GFLOPs" are billions of
//! multiply-accumulates, as "Analyzing the robustness of model compression techniques to noise" and torchvision count
//! them; a multiplication and an addition by themselves are twice as many operations.

use anyhow::Result;

use super::{Ending, print};
use crate::catalog::Described;
use crate::lab;
use crate::lab::architecture;
use crate::lab::attack::{Norm, budgets};
use crate::nn::ImageShape;
use crate::spec::Setting;

/// Prints one table of the catalog or all of them.
pub(crate) fn list(kind: Option<&str>, json: bool) -> Result<Ending> {
    let catalog = lab::catalog();
    let tables: Vec<(&str, &[Described])> = catalog
        .tables()
        .into_iter()
        .filter(|(name, _)| kind.is_none_or(|kind| kind == *name))
        .collect();
    if json {
        let tables: serde_json::Map<String, serde_json::Value> = tables
            .into_iter()
            .map(|(name, table)| Ok((name.to_owned(), serde_json::to_value(table)?)))
            .collect::<Result<_>>()?;
        print(&format!("{}\n", serde_json::to_string_pretty(&tables)?))?;
        return Ok(Ending::Success);
    }
    for (name, table) in tables {
        print(&format!("{name}\n"))?;
        if table.is_empty() {
            print("  none yet\n")?;
        }
        if name == "attacks" {
            print(&format!("{}\n", usual_budgets()))?;
        }
        for method in table {
            let counts = method
                .info
                .ratio_of
                .as_ref()
                .map(|of| format!("; --ratio counts {of}"))
                .unwrap_or_default();
            let info = &method.info;
            print(&format!(
                "  {:28} {} ({}){counts}\n",
                info.id, info.summary, info.reference
            ))?;
            if name == "architectures"
                && let Some(cost) = cost(method)
            {
                print(&format!("  {:28}   {cost}\n", ""))?;
            }
            for knob in method.knobs.iter().filter(|knob| knob.id != "ratio") {
                print(&format!(
                    "  {:28}   --set {}=…  {}; {}\n",
                    "",
                    knob.id,
                    knob.range,
                    knob.range.default()
                ))?;
            }
        }
    }
    Ok(Ending::Success)
}

/// The budgets that curves are drawn round where nobody says epsilons.
fn usual_budgets() -> String {
    let each = lab::data::ALL.iter().map(|entry| {
        let of = |norm| budgets::usual(&entry.info.id, norm);
        let short = |budget: f64| {
            let text = format!("{budget:.4}");
            text.trim_end_matches('0').to_owned()
        };
        format!(
            "{} {} ({})",
            entry.info.id,
            short(of(Norm::Linf)),
            short(of(Norm::L2))
        )
    });
    let each: Vec<String> = each.collect();
    format!(
        "  usual budgets, in pixels of 0 to 1, each pixel's change (all together, Euclidean):\n    {}",
        each.join(", ")
    )
}

/// What an architecture costs as it stands, in words.
fn cost(method: &Described) -> Option<String> {
    let entry = architecture::ALL
        .iter()
        .find(|entry| entry.info.id == method.info.id)?;
    let knobs = entry.knobs.iter();
    let setting = knobs.fold(Setting::default(), |setting, knob| {
        setting.with(&knob.id, knob.range.default())
    });
    let image = ImageShape {
        channels: 3,
        height: 32,
        width: 32,
    };
    let network = (entry.build)(&setting).outline(image, 10).ok()?;
    let macs = network.macs() as f64;
    Some(format!(
        "{} parameters; {:.2} M multiply-accumulates, or {:.3} \"GFLOPs\" (3x32x32, 10 classes)",
        grouped(network.parameters().count()),
        macs / 1e6,
        macs / 1e9
    ))
}

/// A count with a comma before every three digits.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut words = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            words.push(',');
        }
        words.push(digit);
    }
    words
}
