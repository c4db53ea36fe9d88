//! `shrinklab bench int8`: networks of integers beside the same networks in 32-bit floats.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{Batch, Common, Ending, known, print, rounded, seconds};
use crate::lab::bench::int8::{Asked, Paces, paces};
use crate::nn::op::integer::Path;

/// `shrinklab bench int8`
#[derive(Debug, Args)]
pub(crate) struct Int8Arguments {
    /// Architecture, as often as wanted [default: lenet5, cnn8, mobilenet-v1, resnet18]
    #[arg(short, long = "architecture", alias = "arch", value_name = "ID")]
    architectures: Vec<String>,
    #[command(flatten)]
    batch: Batch,
    /// How long each network is timed
    #[arg(
        long,
        value_name = "S",
        default_value = "8",
        allow_negative_numbers = true
    )]
    seconds: String,
    #[command(flatten)]
    common: Common,
}

const USUAL: [&str; 4] = ["lenet5", "cnn8", "mobilenet-v1", "resnet18"];

/// A line of `bench int8`.
#[derive(Serialize)]
struct Line<'a> {
    arch: &'a str,
    batch: usize,
    threads: usize,
    instructions: &'a str,
    vnni: bool,
    steps: usize,
    f32_images_per_s: f64,
    int8_images_per_s: f64,
    int8_over_f32: f64,
}

pub(super) fn int8(arguments: &Int8Arguments) -> Result<Ending> {
    let usual = || USUAL.map(str::to_owned).to_vec();
    let architectures = match arguments.architectures.as_slice() {
        [] => usual(),
        asked => asked.to_vec(),
    };
    for id in &architectures {
        known(id)?;
    }
    let batch = arguments.batch.images()?;
    let threads = arguments.common.threads()?;
    let time = seconds(&arguments.seconds)?;
    let path = Path::fastest();
    if !arguments.common.json {
        let images = if batch == 1 { "image" } else { "images" };
        let plural = if threads == 1 { "thread" } else { "threads" };
        print(&format!(
            "{}; {batch} {images} at a time, {threads} {plural}, in turn\n\n{:<14} {:>14} {:>15} {:>6}\n",
            path.remark(),
            "network",
            "f32 images/s",
            "int8 images/s",
            "ratio"
        ))?;
    }
    for id in &architectures {
        let Paces {
            steps,
            float,
            integer,
        } = paces(&Asked {
            architecture: id,
            batch,
            threads,
            time,
        })?;
        let rate = |seconds: f64| rounded(batch as f64 / seconds, 10.0);
        let line = Line {
            arch: id,
            batch,
            threads,
            instructions: path.name(),
            vnni: path.has_vnni(),
            steps,
            f32_images_per_s: rate(float),
            int8_images_per_s: rate(integer),
            int8_over_f32: rounded(float / integer, 1e3),
        };
        print(&if arguments.common.json {
            format!("{}\n", serde_json::to_string(&line)?)
        } else {
            format!(
                "{:<14} {:>14.1} {:>15.1} {:>6.2}\n",
                line.arch, line.f32_images_per_s, line.int8_images_per_s, line.int8_over_f32
            )
        })?;
    }
    Ok(Ending::Success)
}
