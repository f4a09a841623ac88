//! The command line: one file for each command or group of like ones.

mod arguments;
mod bench;
mod compile;
mod demo;
mod devices;
mod dry_run;
mod encode;
mod inspect;
mod load;
mod opt;
mod output;
mod profile;
mod run;
mod source;
mod tensors;
mod verify;
mod workload;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Cli, Command};

/// What commands give: whether all is well, or what went wrong.
type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Parses the command line and executes it. Exit codes: 0 success, 1 failure or a comparison that
/// does not hold, 2 a command line that does not parse.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.command.machine().is_some_and(|machine| machine.device.as_deref() == Some("list")) {
        devices::list(false);
        return ExitCode::SUCCESS;
    }
    let outcome = match &cli.command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Compile(arguments) => compile::run(arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Embed(arguments) => encode::embed(arguments),
        Command::Classify(arguments) => encode::classify(arguments),
        Command::FillMask(arguments) => encode::fill_mask(arguments),
        Command::Qa(arguments) => encode::answer(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Opt(arguments) => opt::run(arguments),
        Command::Devices { json } => Ok(devices::list(*json)),
        Command::Completions { shell } => {
            arguments::completions(*shell);
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        output::error(error.as_ref());
        ExitCode::FAILURE
    })
}
