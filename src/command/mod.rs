//! The command line: one file a subcommand.

mod agent;
mod cgi_bin;
mod check;
mod container;
mod demo;
mod engine;
mod generate;
mod help;
mod image;
mod init;
mod inspect;
mod invoke;
mod logging;
mod run;
mod serve;
mod signals;
mod url;

use std::error::Error;
use std::io::{self, Write as _};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use dcgi::config::EngineChoice;

/// Serve HTTP from containers by CGI: any CGI program, from any image, in a fresh container for each request.
#[derive(Debug, Parser)]
#[command(name = "dcgi", version = env!("DCGI_VERSION"), max_term_width = 100)]
pub(crate) struct Command {
    #[command(flatten)]
    logging: logging::Options,
    #[command(subcommand)]
    subcommand: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Serve the routes of a configuration file
    Serve(serve::Options),
    /// Serve one image at /
    Run(run::Options),
    /// Serve a directory of scripts at /cgi-bin
    CgiBin(cgi_bin::Options),
    /// Validate a configuration file and print its routes as a table
    Check(check::Options),
    /// Show what a request would run: environment, container, limits. Runs nothing
    Inspect(inspect::Options),
    /// Run one request through a route, without a server
    Invoke(invoke::Options),
    /// Images that are kept on this machine, without a container engine
    Image(image::Options),
    /// Serve a built-in site, made of this executable alone
    Demo(demo::Options),
    /// Write a dcgi.toml to begin with
    Init(init::Options),
    /// Print what has a shell complete dcgi's commands and options
    Completions(generate::Completions),
    /// Print a manual page
    Man(generate::Pages),
    /// Run a program for SCGI requests: what waits inside containers
    Agent(agent::Options),
    /// A program of that site: what its containers run
    #[command(hide = true)]
    DemoPage(demo::page::Options),
}

/// The configuration file.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE", default_value = "dcgi.toml")]
    config: PathBuf,
}

impl ConfigFile {
    fn load(&self) -> anyhow::Result<dcgi::config::Config> {
        dcgi::config::Config::load(&self.config).map_err(|error| {
            let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
            let is_missing = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound);
            match is_missing {
                true => {
                    let why = describe(&error.into());
                    anyhow!("{why}; `dcgi init` writes one to begin with, -c names another")
                }
                false => error.into(),
            }
        })
    }
}

/// The value of an option that names an engine.
fn engine_choice(text: &str) -> Result<EngineChoice, String> {
    match text {
        "auto" => Ok(EngineChoice::Auto),
        "docker" => Ok(EngineChoice::Docker),
        "embedded" => Ok(EngineChoice::Embedded),
        _ => Err("expected auto, embedded or docker".to_owned()),
    }
}

/// The command line that this process was called with. Where it is wrong, or asks for help, the process ends here.
pub(crate) fn parse() -> Command {
    let matches = help::grouped(Command::command()).get_matches();
    Command::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Runs an agent, where that is what the command line says: before everything else, for a container waits for it.
pub(crate) fn agent_if_called() -> Option<ExitCode> {
    agent::run_if_called()
}

/// Runs a command to its end: 0 when it did what it should, 1 when not. (clap exits with 2 where the command
/// line itself is wrong.)
pub(crate) fn run(command: Command) -> ExitCode {
    if let Subcommands::DemoPage(options) = &command.subcommand {
        // A CGI program: no log, no runtime, and as soon as can be.
        return demo::page::run(options);
    }
    logging::start(&command.logging);
    let result = match command.subcommand {
        Subcommands::Agent(options) => Ok(agent::run(options)),
        Subcommands::Check(options) => block_on(check::run(options)),
        Subcommands::Serve(options) => block_on(serve::run(options)),
        Subcommands::Run(options) => block_on(run::run(options)),
        Subcommands::CgiBin(options) => block_on(cgi_bin::run(options)),
        Subcommands::Inspect(options) => block_on(inspect::run(options)),
        Subcommands::Invoke(options) => block_on(invoke::run(options)),
        Subcommands::Image(options) => block_on(image::run(options)),
        Subcommands::Init(options) => init::run(&options),
        Subcommands::Completions(options) => generate::completions(&options),
        Subcommands::Man(options) => generate::man(&options),
        Subcommands::Demo(options) => block_on(demo::run(options)),
        Subcommands::DemoPage(options) => Ok(demo::page::run(&options)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("dcgi: {}", describe(&error));
        ExitCode::FAILURE
    })
}

fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // A program takes several times the processor time that its request takes here, and a thread that hands over to
    // another costs both of them: fewer threads than processors serve more requests.
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        runtime.worker_threads((processors / 3).max(1));
    }
    let runtime = runtime.enable_all().build()?;
    let result = runtime.block_on(command);
    // Not dropped: that waits for threads that read standard input, or run a credential helper, without end.
    runtime.shutdown_background();
    result
}

/// Prints to standard output. That somebody has read enough of it, as `head` does, is no error.
fn print(text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot write to standard output"),
    }
}

/// An error with all that lies below it. Many wrappers repeat what they wrap: that is said once.
fn describe(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |mut text, level| {
        if text.is_empty() {
            text = level;
        } else if !text.contains(&level) {
            text = format!("{text}: {level}");
        }
        text
    })
}
