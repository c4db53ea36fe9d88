//! The same program with the engine for NVIDIA GPUs; `shrinklab --device cuda` starts it in its own place.

fn main() -> std::process::ExitCode {
    shrinklab::cli::process()
}
