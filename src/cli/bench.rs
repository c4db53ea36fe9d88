//! `shrinklab bench`: how fast this machine is.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Ending, UsageError, print};
use crate::app::door;
use crate::lab::bench::ops::OpPace;
use crate::lab::bench::{self, Asked, Phase};
use crate::lab::{architecture, worker};
use crate::nn::device::Precision;
use crate::spec::is_device;

mod corruptions;
mod int8;

/// What can be timed.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchWord {
    /// Images per second in training, in use, or under attack
    Train(TrainArguments),
    /// What each op reaches, beside the rate of matrix products
    Ops(OpsArguments),
    /// Images per second in use: networks of 8-bit integers beside the same in 32-bit floats
    Int8(int8::Int8Arguments),
    /// How long corrupted images take to make
    Corruptions(corruptions::CorruptionArguments),
    /// What the screen costs a training, and how soon it answers a key
    Screen(ScreenArguments),
    /// The other side of `bench screen`
    #[command(hide = true)]
    Seat(SeatArguments),
}

/// What all of them take.
#[derive(Debug, Args)]
struct Common {
    /// Threads that compute [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<String>,
    /// JSON, one line for each result
    #[arg(long)]
    json: bool,
}

/// What those take that compute on random images.
#[derive(Debug, Args)]
struct Batch {
    /// Images at a time
    #[arg(
        long = "batch",
        value_name = "N",
        default_value = "64",
        allow_negative_numbers = true
    )]
    images: String,
}

/// Where it is timed.
#[derive(Debug, Args)]
struct Place {
    /// cpu, auto (the GPU with the most free memory, or the CPU) or cuda[:N]
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// On a GPU, multiply with all 32 bits and not with TF32
    #[arg(long)]
    fp32: bool,
    /// On a GPU, compute only what gives the same bits every time
    #[arg(long)]
    deterministic: bool,
}

/// `shrinklab bench ops`
#[derive(Debug, Args)]
pub(crate) struct OpsArguments {
    #[command(flatten)]
    batch: Batch,
    /// How long each pass is timed
    #[arg(
        long,
        value_name = "S",
        default_value = "0.2",
        allow_negative_numbers = true
    )]
    seconds: String,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    common: Common,
}

/// `shrinklab bench screen`
#[derive(Debug, Args)]
pub(crate) struct ScreenArguments {
    /// Architecture
    #[arg(
        short,
        long,
        alias = "arch",
        value_name = "ID",
        default_value = "lenet5"
    )]
    architecture: String,
    /// How long training with and without screen and recorder is compared
    #[arg(
        long,
        value_name = "S",
        default_value = "60",
        allow_negative_numbers = true
    )]
    seconds: String,
    #[command(flatten)]
    common: Common,
}

/// `shrinklab bench seat`
#[derive(Debug, Args)]
pub(crate) struct SeatArguments {
    #[arg(long)]
    architecture: String,
    #[arg(long)]
    threads: u32,
    #[arg(long)]
    session: std::path::PathBuf,
    #[arg(long, value_parser = ["heard", "alternating"])]
    listening: String,
}

/// `shrinklab bench train`
#[derive(Debug, Args)]
pub(crate) struct TrainArguments {
    /// Architecture
    #[arg(short, long, alias = "arch", value_name = "ID")]
    architecture: String,
    /// train, eval or attack
    #[arg(long, value_name = "PHASE", default_value = "train")]
    phase: String,
    #[command(flatten)]
    batch: Batch,
    /// How long steps are timed
    #[arg(
        long,
        value_name = "S",
        default_value = "8",
        allow_negative_numbers = true
    )]
    seconds: String,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    common: Common,
}

/// Times what is asked for.
pub(crate) fn bench(what: &BenchWord) -> Result<Ending> {
    match what {
        BenchWord::Train(arguments) => train(arguments),
        BenchWord::Ops(arguments) => ops(arguments),
        BenchWord::Int8(arguments) => int8::int8(arguments),
        BenchWord::Corruptions(arguments) => corruptions::run(arguments),
        BenchWord::Screen(arguments) => screen(arguments),
        BenchWord::Seat(arguments) => seat(arguments),
    }
}

#[cfg(unix)]
fn screen(arguments: &ScreenArguments) -> Result<Ending> {
    known(&arguments.architecture)?;
    let found = crate::app::bench::screen(&crate::app::bench::Asked {
        architecture: arguments.architecture.clone(),
        threads: arguments.common.threads()? as u32,
        seconds: seconds(&arguments.seconds)?,
    })?;
    print(&if arguments.common.json {
        format!("{}\n", serde_json::to_string(&found)?)
    } else {
        let share = found.screen_cpu_share.map_or_else(String::new, |share| {
            format!(", {:.2} % of the threads' time", share * 100.0)
        });
        format!(
            "{} with {} threads on {}x{}: key to screen {:.1} ms (p50), {:.1} ms (p99) of {} keys; {:.0} bytes/s; \
             training slowed by {:.2} % [{:.2}, {:.2}]{share}\n",
            found.architecture,
            found.threads,
            found.columns,
            found.rows,
            found.key_p50_ms,
            found.key_p99_ms,
            found.keys,
            found.bytes_per_s,
            found.slow_down * 100.0,
            found.slow_down_low * 100.0,
            found.slow_down_high * 100.0,
        )
    })?;
    Ok(Ending::Success)
}

#[cfg(unix)]
fn seat(arguments: &SeatArguments) -> Result<Ending> {
    crate::app::bench::seat(
        &arguments.architecture,
        arguments.threads,
        &arguments.session,
        arguments.listening == "alternating",
    )
}

#[cfg(not(unix))]
fn screen(_: &ScreenArguments) -> Result<Ending> {
    Err(anyhow!(
        "bench screen needs a pseudo-terminal, which this system does not have"
    ))
}

#[cfg(not(unix))]
fn seat(_: &SeatArguments) -> Result<Ending> {
    Err(anyhow!(
        "bench seat needs a pseudo-terminal, which this system does not have"
    ))
}

fn known(id: &str) -> Result<()> {
    let known = || architecture::ALL.iter().map(|entry| &*entry.info.id);
    if known().any(|known| known == id) {
        return Ok(());
    }
    let known: Vec<&str> = known().collect();
    Err(refused(
        "architecture",
        id,
        &format!("one of {}", known.join(", ")),
    ))
}

impl Common {
    fn threads(&self) -> Result<usize> {
        self.threads.as_ref().map_or_else(
            || Ok(worker::available_threads() as usize),
            |typed| whole("threads", typed, 1024),
        )
    }
}

impl Place {
    /// The device, behind the door to the GPUs, and how it computes.
    fn settled(&self) -> Result<(String, Precision)> {
        if !is_device(&self.device) {
            return Err(refused("device", &self.device, "cpu, auto, cuda or cuda:N"));
        }
        let (device, remark) = door::way(&self.device)?.take()?;
        if let Some(remark) = remark {
            // Beside the figures, which may be for a program. Standard error may be gone.
            let _ = writeln!(std::io::stderr(), "shrinklab: {remark}");
        }
        let precision = Precision {
            tf32: !self.fp32,
            deterministic: self.deterministic,
        };
        Ok((device, precision))
    }
}

impl Batch {
    fn images(&self) -> Result<usize> {
        whole("batch", &self.images, 65_536)
    }
}

/// A line of `bench ops`.
#[derive(Serialize)]
struct OpLine<'a> {
    op: &'a str,
    pass: &'a str,
    shape: &'a str,
    threads: usize,
    device: &'a str,
    ms: f64,
    gflop_per_s: Option<f64>,
    gbyte_per_s: f64,
    gemm_gflop_per_s: f64,
}

fn ops(arguments: &OpsArguments) -> Result<Ending> {
    let batch = arguments.batch.images()?;
    let threads = arguments.common.threads()?;
    let time = seconds(&arguments.seconds)?;
    let (device, precision) = arguments.place.settled()?;
    let Timed { gemm, title, paces } = timed(&device, precision, threads, batch, time)?;
    if !arguments.common.json {
        print(&format!(
            "{title}\n\n{:<20} {:<11} {:<34} {:>9} {:>9} {:>6} {:>7}\n",
            "op", "pass", "shape", "ms", "GFLOP/s", "gemm", "GB/s"
        ))?;
    }
    for pace in paces {
        let rate = (pace.operations > 0.0).then(|| pace.operations / pace.seconds / 1e9);
        let line = OpLine {
            op: pace.op,
            pass: pace.pass,
            shape: &pace.shape,
            threads,
            device: &device,
            ms: rounded(pace.seconds * 1e3, 1e3),
            gflop_per_s: rate.map(|rate| rounded(rate, 10.0)),
            gbyte_per_s: rounded(pace.bytes / pace.seconds / 1e9, 10.0),
            gemm_gflop_per_s: rounded(gemm, 10.0),
        };
        print(&if arguments.common.json {
            format!("{}\n", serde_json::to_string(&line)?)
        } else {
            let words = |value: Option<String>| value.unwrap_or_else(|| "-".into());
            format!(
                "{:<20} {:<11} {:<34} {:>9.3} {:>9} {:>6} {:>7.1}\n",
                line.op,
                line.pass,
                line.shape,
                line.ms,
                words(rate.map(|rate| format!("{rate:.1}"))),
                words(rate.map(|rate| format!("{:.0} %", rate / gemm * 100.0))),
                line.gbyte_per_s,
            )
        })?;
    }
    Ok(Ending::Success)
}

/// What the ops of a device reach.
struct Timed {
    /// What products of matrices reach there, in GFLOP/s.
    gemm: f64,
    title: String,
    paces: Vec<OpPace>,
}

fn timed(
    device: &str,
    precision: Precision,
    threads: usize,
    batch: usize,
    time: Duration,
) -> Result<Timed> {
    #[cfg(feature = "cuda")]
    if device != "cpu" {
        let (ceilings, paces) = bench::gpu::ops(device, precision, batch, time)?;
        let gemm = ceilings.operations / 1e9;
        let title = format!(
            "on {device} cuBLAS reaches {gemm:.0} GFLOP/s{}, and copies {:.0} GB/s",
            if precision.tf32 { " with TF32" } else { "" },
            ceilings.bytes / 1e9
        );
        return Ok(Timed { gemm, title, paces });
    }
    let _ = (device, precision);
    let gemm = bench::product_rate(threads, time)? / 1e9;
    let title = format!(
        "the gemm crate's products reach {gemm:.1} GFLOP/s with {threads} {}; more than that is fewer products",
        if threads == 1 { "thread" } else { "threads" }
    );
    let paces = bench::ops(threads, batch, time)?;
    Ok(Timed { gemm, title, paces })
}

/// The line of `bench train`.
#[derive(Serialize)]
struct Line<'a> {
    arch: &'a str,
    phase: &'a str,
    batch: usize,
    threads: usize,
    device: &'a str,
    params: u64,
    steps: usize,
    images_per_s: f64,
    ms_per_step: f64,
    /// On a GPU: steps that were asked for by one CUDA graph.
    #[serde(skip_serializing_if = "Option::is_none")]
    graph_steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    without_graphs: Option<String>,
    peak_rss_bytes: Option<u64>,
}

fn train(arguments: &TrainArguments) -> Result<Ending> {
    let id = &arguments.architecture;
    known(id)?;
    let phase = Phase::ALL
        .iter()
        .find(|(word, _)| *word == arguments.phase)
        .map(|(_, phase)| *phase)
        .ok_or_else(|| refused("phase", &arguments.phase, "one of train, eval, attack"))?;
    let batch = arguments.batch.images()?;
    let threads = arguments.common.threads()?;
    let seconds = seconds(&arguments.seconds)?;
    let (device, precision) = arguments.place.settled()?;
    let pace = bench::train(&Asked {
        architecture: id,
        phase,
        batch,
        threads,
        time: seconds,
        device: &device,
        precision,
    })?;
    let line = Line {
        arch: id,
        phase: phase.name(),
        batch,
        threads,
        device: &device,
        params: pace.parameters,
        steps: pace.steps,
        images_per_s: rounded(batch as f64 / pace.seconds, 10.0),
        ms_per_step: rounded(pace.seconds * 1e3, 1e3),
        graph_steps: pace.graphs.as_ref().map(|graphs| graphs.launched),
        without_graphs: pace.graphs.and_then(|graphs| graphs.without),
        peak_rss_bytes: peak_memory(),
    };
    print(&if arguments.common.json {
        format!("{}\n", serde_json::to_string(&line)?)
    } else {
        line.words()
    })?;
    Ok(Ending::Success)
}

impl Line<'_> {
    fn words(&self) -> String {
        let memory = self
            .peak_rss_bytes
            .map(|bytes| format!(", {:.0} MB at most", bytes as f64 / 1e6))
            .unwrap_or_default();
        let threads = if self.threads == 1 {
            "thread"
        } else {
            "threads"
        };
        let graphs = match (self.graph_steps, &self.without_graphs) {
            (None, _) => String::new(),
            (Some(steps), None) => format!(", {steps} of them by CUDA graphs"),
            (Some(steps), Some(reason)) => {
                format!(", {steps} of them by CUDA graphs, which are off: {reason}")
            }
        };
        format!(
            "{} {} on {}: {:.1} images/s, {:.3} ms a step of {} images with {} {threads} (median of {} steps{graphs}){memory}\n",
            self.arch,
            self.phase,
            self.device,
            self.images_per_s,
            self.ms_per_step,
            self.batch,
            self.threads,
            self.steps,
        )
    }
}

/// A value that a flag does not take, in one sentence.
fn refused(flag: &str, typed: &str, allowed: &str) -> anyhow::Error {
    let typed: String = typed
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(60)
        .collect();
    anyhow!(UsageError(format!(
        "--{flag}: {typed} is not allowed; {allowed}"
    )))
}

fn whole(flag: &str, typed: &str, most: usize) -> Result<usize> {
    typed
        .parse()
        .ok()
        .filter(|n| (1..=most).contains(n))
        .ok_or_else(|| refused(flag, typed, &format!("a whole number from 1 to {most}")))
}

/// An hour is the longest that anybody times.
fn seconds(typed: &str) -> Result<Duration> {
    typed
        .parse()
        .ok()
        .filter(|seconds| (0.0..=3600.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| refused("seconds", typed, "a number from 0 to 3600"))
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// The most memory that this process has held so far, where the system says (Linux: `VmHWM`).
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
