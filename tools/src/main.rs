//! The `castiron` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    castiron::commands::main()
}
