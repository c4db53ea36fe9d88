//! `shrinklab replay --once`: one picture of a session, as text or as SVG.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};

use crate::cli::{Ending, ReplayArguments, UsageError, print};
use crate::session::Session;
use crate::state::Timeline;
use crate::ui;
use crate::ui::form::Form;
use crate::ui::scene::Scene;
use crate::ui::view::{Screen, View};

/// Speeds that a replay has.
const SPEEDS: (f64, f64) = (0.25, 256.0);

/// A speed as people type it: `4`, `0.5`, `1/4`.
///
/// # Errors
/// [`UsageError`] outside 1/4 to 256.
pub(crate) fn speed(typed: &str) -> Result<f64> {
    let value = match typed.split_once('/') {
        Some((over, under)) => over
            .parse::<f64>()
            .ok()
            .zip(under.parse::<f64>().ok())
            .map(|(a, b)| a / b),
        None => typed.parse().ok(),
    };
    value
        .filter(|value| (SPEEDS.0..=SPEEDS.1).contains(value))
        .ok_or_else(|| {
            anyhow!(UsageError(format!(
                "--speed: {typed} is not allowed; 1/4 to 256"
            )))
        })
}

/// Columns and rows as people type them: `120x40`.
fn size(typed: &str) -> Result<(u16, u16)> {
    typed
        .split_once('x')
        .and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)))
        .filter(|(columns, rows)| (1..=1000).contains(columns) && (1..=1000).contains(rows))
        .ok_or_else(|| {
            anyhow!(UsageError(format!(
                "--size: {typed} is not COLUMNSxROWS, 1 to 1000 each"
            )))
        })
}

/// Prints the picture.
pub(crate) fn once(arguments: &ReplayArguments) -> Result<Ending> {
    let (columns, rows) = size(arguments.size.as_deref().unwrap_or("100x30"))?;
    let session = Session::open(&arguments.file)?;
    let tolerated = session.tolerated();
    let mut timeline = Timeline::replaying(session.records);
    let end = match arguments.at {
        Some(record) if (0..timeline.len() as i64).contains(&record) => record as usize + 1,
        Some(record) => {
            let last = timeline.len().saturating_sub(1);
            return Err(anyhow!(UsageError(format!(
                "--at: record {record} is not there; 0 to {last}"
            ))));
        }
        None => timeline.len(),
    };
    timeline.seek(end);
    let mut view = View::new(Form::new(&session.header.catalog), Screen::Live);
    if let Some(name) = &arguments.screen {
        view.go(name)
            .map_err(|names| anyhow!(UsageError(format!("--screen: {name} is none of {names}"))))?;
    }
    let mono = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let scene = Scene {
        timeline: &timeline,
        catalog: &session.header.catalog,
        lab: &session.header.catalog,
        sessions: &[],
        estimate: "",
        data_notes: &BTreeMap::new(),
        message: None,
        unrecorded: None,
        tolerated: &tolerated,
        live: false,
        pausing: false,
        device: &session.header.device,
        gpu: None,
        bell: false,
        mono,
        demo: false,
    };
    let buffer = ui::picture(&scene, &view, columns, rows);
    print(&if arguments.svg {
        ui::export::svg(&buffer)
    } else {
        ui::export::plain_text(&buffer)
    })?;
    Ok(Ending::Success)
}
