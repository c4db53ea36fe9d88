//! `shrinklab report`: sessions as a document.

use std::fs;

use anyhow::{Context as _, Result};

use super::{Ending, ReportArguments, print};
use crate::report::Report;
use crate::session::Session;

/// Writes the report.
pub(crate) fn report(arguments: &ReportArguments) -> Result<Ending> {
    let sessions = arguments
        .files
        .iter()
        .map(|file| Session::open(file))
        .collect::<Result<Vec<_>, crate::session::Error>>()?;
    let sessions: Vec<&Session> = sessions.iter().collect();
    let report = Report::new(&sessions);
    let document = report.render(arguments.format);
    match &arguments.output {
        Some(file) => fs::write(file, document).with_context(|| file.display().to_string())?,
        None => print(&document)?,
    }
    Ok(Ending::Success)
}
