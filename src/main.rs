//! The `vitald` program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    vitald::main(std::env::args_os())
}
