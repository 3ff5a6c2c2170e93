//! `dcgi agent`: what runs inside containers.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use dcgi::agent::{Agent, Listen, Once};

/// The options of `dcgi agent`.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Serve one request, and end with the program's status
    Once {
        /// A unix socket of dcgi's to dial [default: the request comes on standard input]
        #[arg(long, value_name = "SOCKET", requires = "token")]
        dial: Option<PathBuf>,
        /// What to say there
        #[arg(long, value_name = "WORD", requires = "dial")]
        token: Option<String>,
        #[command(flatten)]
        program: Program,
    },
    /// Serve many, each by a process of its own, until SIGTERM
    #[command(group = clap::ArgGroup::new("from").required(true))]
    Listen {
        /// A unix socket of dcgi's to dial
        #[arg(long, value_name = "SOCKET", requires = "token", group = "from")]
        dial: Option<PathBuf>,
        /// What to say there
        #[arg(long, value_name = "WORD", requires = "dial")]
        token: Option<String>,
        /// Standard input is a connection to dcgi
        #[arg(long, group = "from")]
        connected: bool,
        /// The same, to an agent that has started this one
        #[arg(long, group = "from", hide = true)]
        link: bool,
        /// Any SCGI client: unix:PATH or ADDRESS:PORT
        #[arg(long, value_name = "ADDRESS", group = "from")]
        scgi: Option<Address>,
        /// How many programs may run at once [default: 1024]
        #[arg(long, value_name = "NUMBER", conflicts_with_all = ["dial", "connected", "link"])]
        max_concurrency: Option<NonZero<usize>>,
        /// How many processes start programs [default: one for each processor, at most 4]
        #[arg(long, value_name = "NUMBER", conflicts_with = "scgi")]
        workers: Option<NonZero<usize>>,
        #[command(flatten)]
        program: Program,
    },
}

#[derive(Debug, Args)]
struct Program {
    /// How long a program may take, such as 30s
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Debug)]
enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl std::str::FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some("") => Err("no path"),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| "expected unix:PATH or ADDRESS:PORT"),
        }
    }
}

// `dcgi agent` by itself: what it needs of the command line is understood in a fraction of a millisecond, and there is a container
// that waits for it.
/// Run a program for SCGI requests: what waits inside containers
#[derive(Debug, Parser)]
#[command(name = "dcgi agent", bin_name = "dcgi agent")]
struct Alone {
    #[command(flatten)]
    options: Options,
}

/// Runs an agent, if that is what this process was started for.
pub(super) fn run_if_called() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    arguments.peek().is_some_and(|first| first == "agent").then(|| run(Alone::parse_from(arguments).options))
}

/// Runs an agent.
pub(super) fn run(options: Options) -> ExitCode {
    let result = match options.mode {
        Mode::Once { dial, token, program } => {
            let from = dial.zip(token).map_or(Once::Stdin, |(socket, token)| Once::Dial(socket, token));
            program.agent(None, None).once(from).map(ExitCode::from)
        }
        Mode::Listen { dial, token, connected: _, link, scgi, max_concurrency, workers, program } => {
            let from = match (dial.zip(token), scgi) {
                (Some((socket, token)), _) => Listen::Dial(socket, token),
                (None, Some(Address::Unix(path))) => Listen::Unix(path),
                (None, Some(Address::Tcp(address))) => Listen::Tcp(address),
                (None, None) if link => Listen::Link,
                (None, None) => Listen::Stdin,
            };
            program.agent(max_concurrency, workers).listen(from).map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("dcgi agent: {error}");
        ExitCode::FAILURE
    })
}

impl Program {
    fn agent(self, max_concurrency: Option<NonZero<usize>>, workers: Option<NonZero<usize>>) -> Agent {
        let max_concurrency = max_concurrency.map_or(1024, NonZero::get);
        Agent { command: self.command, max_concurrency, timeout: self.timeout, workers }
    }
}
