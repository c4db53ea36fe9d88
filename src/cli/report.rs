//! `shrinklab report`: sessions as a document.

use std::fs;

use anyhow::{Context as _, Result, bail};

use super::{Ending, ReportArguments, print_document};
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
    if let Some(file) = &arguments.output
        && Session::open(file).is_ok()
    {
        bail!(
            "{} is a session, and a report never overwrites one; choose another name",
            file.display()
        );
    }
    match &arguments.output {
        Some(file) => fs::write(file, document).with_context(|| file.display().to_string())?,
        None => print_document(&document)?,
    }
    Ok(Ending::Success)
}
