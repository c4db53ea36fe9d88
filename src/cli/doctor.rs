//! `shrinklab doctor`: what this machine offers.

use std::path::PathBuf;

use anyhow::Result;

use super::{Ending, print};
use crate::lab;

/// Says what the processor, the threads, the folders and the terminal are.
pub(crate) fn doctor(folders: &[PathBuf]) -> Result<Ending> {
    print(&format!(
        "shrinklab  {} ({})\n",
        env!("CARGO_PKG_VERSION"),
        env!("SHRINKLAB_COMMIT")
    ))?;
    print(&format!(
        "processor  {} threads, instructions: {}\n",
        lab::worker::available_threads(),
        instructions()
    ))?;
    print("device     cpu; this build has no CUDA engine\n")?;
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

fn instructions() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let mut found = Vec::new();
        if std::arch::is_x86_feature_detected!("avx2") {
            found.push("AVX2");
        }
        if std::arch::is_x86_feature_detected!("fma") {
            found.push("FMA");
        }
        if std::arch::is_x86_feature_detected!("avx512f") {
            found.push("AVX-512");
        }
        if found.is_empty() {
            "none beyond the baseline".into()
        } else {
            found.join(", ")
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH.to_owned()
    }
}
