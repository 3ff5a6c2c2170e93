//! The log: on standard error, for people or for machines.
//!
//! `escape` is what becomes of characters that would make a line look like another, `filter` what `--log` takes.

mod escape;
mod filter;

use std::io::IsTerminal;

use clap::{Args, ValueEnum};

use escape::{Escaped, JsonEscaped};
use filter::Filter;

#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub(super) struct Options {
    /// How the log is written
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: Format,
    /// What is logged: error, warn, info, debug, trace, off, or filters such as `info,dcgi::access=off`
    #[arg(long, global = true, env = "DCGI_LOG", default_value = "info", value_name = "FILTER")]
    log: Filter,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Starts logging for the rest of the process.
pub(super) fn start(options: &Options) {
    let log = tracing_subscriber::fmt().with_env_filter(options.log.to_layer());
    match options.log_format {
        Format::Text => {
            let log = log.with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
            log.fmt_fields(Escaped).init();
        }
        Format::Json => {
            log.json().flatten_event(true).with_writer(|| JsonEscaped(std::io::stderr())).init();
        }
    }
}
