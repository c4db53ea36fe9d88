//! `shrinklab doctor`: what this machine offers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

mod gpu;

use super::processor::{Processor, instructions, quota};
use super::{Ending, print};
use crate::lab;
use crate::lab::bench::product_rate;
use crate::lab::worker::{self, Because, VARIABLE};
use crate::nn::op::integer::Path;

/// How long matrix products are timed.
const MEASURING: Duration = Duration::from_millis(200);

/// Says what the processor, the threads, the folders and the terminal are.
pub(crate) fn doctor(folders: &[PathBuf]) -> Result<Ending> {
    print(&format!(
        "shrinklab  {} ({})\n",
        env!("CARGO_PKG_VERSION"),
        env!("SHRINKLAB_COMMIT")
    ))?;
    let name = Processor::of_this_machine().and_then(|processor| processor.name);
    print(&format!(
        "processor  {}; {}\n",
        name.as_deref().unwrap_or(std::env::consts::ARCH),
        instructions()
    ))?;
    print(&format!("integers   {}\n", Path::fastest().remark()))?;
    print(&format!("threads    {}\n", threads()))?;
    print(&format!("products   {}\n", products()?))?;
    gpu::say()?;
    let cache = lab::cache::Cache::standard();
    let place = cache
        .folder()
        .map_or_else(|| "none".to_owned(), |folder| folder.display().to_string());
    print(&format!("cache      {place}\n"))?;
    let sessions = crate::session::store::default_folder()
        .map_or_else(|| "none".to_owned(), |folder| folder.display().to_string());
    print(&format!("sessions   {sessions}\n"))?;
    for folder in folders {
        print(&format!("data       {}\n", folder.display()))?;
    }
    let say = |name: &str| std::env::var(name).unwrap_or_else(|_| "not set".into());
    print(&format!(
        "terminal   TERM {}, COLORTERM {}, NO_COLOR {}\n",
        say("TERM"),
        say("COLORTERM"),
        say("NO_COLOR")
    ))?;
    Ok(Ending::Success)
}

/// How many threads compute, and why so many.
fn threads() -> String {
    let (threads, because) = worker::threads();
    let plural = if threads == 1 { "thread" } else { "threads" };
    let mut words = match because {
        Because::Environment => format!("{threads} {plural}, as {VARIABLE} says"),
        Because::System => format!("{threads} {plural}, all that this process may use"),
    };
    if let Some(processor) = Processor::of_this_machine() {
        words = format!(
            "{words}: {} logical processors on {} cores",
            processor.logical, processor.cores
        );
    }
    let quota = quota().map_or_else(
        || "no quota".to_owned(),
        |quota| format!("a quota of {quota:.1}"),
    );
    format!("{words}, {quota}; --threads or {VARIABLE} changes it")
}

/// What matrix products reach on one thread and on all.
fn products() -> Result<String> {
    let all = worker::available_threads() as usize;
    let rate = |threads| product_rate(threads, MEASURING);
    let mut words = format!("{:.0} GFLOP/s on 1 thread", rate(1)? / 1e9);
    if all > 1 {
        words = format!("{words}, {:.0} on {all}", rate(all)? / 1e9);
    }
    Ok(words)
}
