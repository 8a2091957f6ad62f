use std::process::ExitCode;

fn main() -> ExitCode {
    mediafs::failpoint::arm();
    mediafs::cli::run()
}
