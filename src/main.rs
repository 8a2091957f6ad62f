use std::process::ExitCode;

fn main() -> ExitCode {
    mediafs::cli::run()
}
