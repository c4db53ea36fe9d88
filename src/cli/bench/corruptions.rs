//! `shrinklab bench corruptions`: how long corrupted images take to make.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{Common, Ending, print, rounded, whole};
use crate::lab::bench::corruptions;

/// `shrinklab bench corruptions`
#[derive(Debug, Args)]
pub(crate) struct CorruptionArguments {
    /// Color images of 32x32 pixels, for each severity
    #[arg(
        long,
        value_name = "N",
        default_value = "1000",
        allow_negative_numbers = true
    )]
    images: String,
    #[command(flatten)]
    common: Common,
}

/// A line of `bench corruptions`.
#[derive(Serialize)]
struct Line<'a> {
    corruption: &'a str,
    images: usize,
    threads: usize,
    severities: usize,
    seconds: f64,
    images_per_s: f64,
}

pub(super) fn run(arguments: &CorruptionArguments) -> Result<Ending> {
    let images = whole("images", &arguments.images, 100_000)?;
    let threads = arguments.common.threads()?;
    let is_json = arguments.common.json;
    let paces = corruptions(threads, images)?;
    let tell = |corruption: &str, severities: usize, seconds: f64| {
        let line = Line {
            corruption,
            images,
            threads,
            severities,
            seconds: rounded(seconds, 1e3),
            images_per_s: rounded((images * severities) as f64 / seconds, 1.0),
        };
        print(&if is_json {
            format!("{}\n", serde_json::to_string(&line)?)
        } else {
            format!(
                "{:<20} {:>10} {:>9.3} {:>12.0}\n",
                line.corruption, line.severities, line.seconds, line.images_per_s
            )
        })
    };
    if !is_json {
        let plural = if threads == 1 { "thread" } else { "threads" };
        print(&format!(
            "{images} color images of 32x32 at each severity, {threads} {plural}\n\n{:<20} {:>10} {:>9} {:>12}\n",
            "corruption", "severities", "seconds", "images/s"
        ))?;
    }
    let (mut sets, mut total) = (0, 0.0);
    for pace in &paces {
        let seconds: f64 = pace.seconds.iter().sum();
        tell(&pace.condition, pace.seconds.len(), seconds)?;
        if pace.is_of_fifteen {
            sets += pace.seconds.len();
            total += seconds;
        }
    }
    tell("cifar-10-c (15 x 5)", sets, total)?;
    Ok(Ending::Success)
}
