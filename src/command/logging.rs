//! The log: on standard error, for people or for machines.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// How the log is written
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: Format,
    /// What is logged: error, warn, info, debug, trace, or filters such as `info,dcgi::access=off`
    #[arg(long, global = true, env = "DCGI_LOG", default_value = "info", value_name = "FILTER")]
    log: EnvFilter,
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
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(options.log.to_string());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        Format::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        Format::Json => log.json().flatten_event(true).init(),
    }
}
