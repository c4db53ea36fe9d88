//! Calls the library, prints what went wrong, and ends with the exit status.

use std::process::ExitCode;

use shrinklab::cli::{self, Ending, UsageError};

fn main() -> ExitCode {
    match cli::main(std::env::args_os()) {
        Ok(ending) => ExitCode::from(ending.code()),
        Err(error) => {
            let ending = if error.is::<UsageError>() {
                Ending::Usage
            } else {
                Ending::Failure
            };
            // Standard error may be gone; the status still says it.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("shrinklab: {}\n", cli::harmless(&format!("{error:#}"))),
            );
            ExitCode::from(ending.code())
        }
    }
}
