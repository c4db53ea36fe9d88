//! Calls the library, which prints what went wrong and says the exit status.

fn main() -> std::process::ExitCode {
    shrinklab::cli::process()
}
