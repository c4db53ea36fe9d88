//! The program as it is typed: what it prints, what it writes, and with which status it ends.
//!
//! Every test has folders of its own for sessions, data and the cache.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

#[path = "cli/attacks.rs"]
mod attacks;
#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/corruptions.rs"]
mod corruptions;
#[path = "cli/domains.rs"]
mod domains;
#[path = "cli/endings.rs"]
mod endings;
#[cfg(unix)]
#[path = "cli/gpu.rs"]
mod gpu;
#[path = "cli/lists.rs"]
mod lists;
#[path = "cli/matching.rs"]
mod matching;
#[path = "cli/refusals.rs"]
mod refusals;
#[path = "cli/reports.rs"]
mod reports;
#[path = "cli/sandbox.rs"]
mod sandbox;
#[path = "cli/saving.rs"]
mod saving;
#[path = "cli/studies.rs"]
mod studies;
#[path = "cli/weights.rs"]
mod weights;
