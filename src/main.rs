//! The `vitald` program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    vitald::cli::main(std::env::args_os())
}
