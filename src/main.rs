//! The `dcgi` command.

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::agent_if_called().unwrap_or_else(|| command::run(command::parse()))
}
