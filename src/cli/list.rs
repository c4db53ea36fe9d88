//! `shrinklab list`: what the lab knows.

use anyhow::Result;

use super::{Ending, print};
use crate::catalog::Described;
use crate::lab;

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
