//! The embedded engine beside servers that put no walls around a program: lighttpd, and nginx with fcgiwrap; and beside
//! Docker. The same programs, the same load, in one run, the servers taking turns, so that a machine that gets slower
//! gets slower for all of them. The result is written into `docs/benchmarks.md`, between two comments.

#![allow(clippy::disallowed_methods, reason = "no runtime's thread is blocked")]

#[path = "peers/account.rs"]
mod account;
#[path = "peers/endurance.rs"]
mod endurance;
#[path = "peers/load.rs"]
mod load;
#[path = "peers/machine.rs"]
mod machine;
#[path = "peers/program.rs"]
mod program;
#[path = "peers/report.rs"]
mod report;
#[path = "peers/server.rs"]
mod server;
#[path = "peers/stage.rs"]
mod stage;
#[path = "support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use load::Load;
use report::{Measured, Report};
use server::Server;
use stage::Stage;
use support::client::Connection;

const ROUNDS: usize = 3;

/// The default of `PEERS_SECONDS`.
const SECONDS: u64 = 5;

/// Docker makes a few containers a second: below this, there would be nothing to take a median of.
const LEAST_SECONDS_FOR_DOCKER: u64 = 10;

/// Connections that always have a request.
const CONNECTIONS: [usize; 2] = [1, 8];

const EMBEDDED: &str = r#"engine = "embedded"

[[route]]
path = "/hello"
image = "bench/hello"
pull = "never"

[[route]]
path = "/cold"
image = "bench/hello"
pull = "never"
warm = 0

[[route]]
path = "/perl"
image = "bench/perl"
pull = "never"
"#;

/// What answers a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Lighttpd,
    Nginx,
    Warm,
    Cold,
    Docker,
    LighttpdPerl,
    WarmPerl,
}

impl Contender {
    const ALL: [Self; 7] = [
        Self::Lighttpd,
        Self::Nginx,
        Self::Warm,
        Self::Cold,
        Self::Docker,
        Self::LighttpdPerl,
        Self::WarmPerl,
    ];

    fn path(self) -> &'static str {
        match self {
            Self::LighttpdPerl => "/hello.pl",
            Self::WarmPerl => "/perl",
            Self::Cold => "/cold",
            Self::Lighttpd | Self::Nginx | Self::Warm | Self::Docker => "/hello",
        }
    }

    /// What the program says.
    fn greeting(self) -> &'static str {
        match self {
            Self::LighttpdPerl | Self::WarmPerl => "Hello from Perl!\n",
            _ => "Hello from a container!\n",
        }
    }
}

/// All that is compared, listening.
#[derive(Debug)]
struct Field {
    lighttpd: Server,
    nginx: Server,
    embedded: Server,
    /// Where an engine answers.
    docker: Option<Server>,
}

impl Field {
    fn start(stage: &Stage) -> Self {
        let programs = program::build(stage);
        let store = program::import(stage, &programs);
        let docker = program::import_into_docker(stage, &programs).then(|| {
            let image = program::DOCKER_IMAGE;
            let config = format!(
                "engine = \"docker\"\n[[route]]\npath = \"/hello\"\nimage = \"{image}\"\npull = \"never\"\n"
            );
            server::dcgi(stage, "docker.toml", &config, &[])
        });
        Self {
            lighttpd: server::lighttpd(stage, &programs),
            nginx: server::nginx(stage, &programs),
            embedded: server::dcgi(stage, "embedded.toml", EMBEDDED, &[("DCGI_STORE", store.as_ref())]),
            docker,
        }
    }

    fn server(&self, contender: Contender) -> Option<&Server> {
        match contender {
            Contender::Lighttpd | Contender::LighttpdPerl => Some(&self.lighttpd),
            Contender::Nginx => Some(&self.nginx),
            Contender::Warm | Contender::Cold | Contender::WarmPerl => Some(&self.embedded),
            Contender::Docker => self.docker.as_ref(),
        }
    }
}

fn main() {
    let seconds = std::env::var("PEERS_SECONDS").map_or(SECONDS, |text| text.parse().expect("PEERS_SECONDS"));
    let file = std::env::var_os("PEERS_FILE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md"), PathBuf::from);
    // A file without the place for it is better known now than in minutes.
    let page = report::Page::open(&file);

    let stage = Stage::set();
    let field = Field::start(&stage);
    let mut measured: Vec<Measured> = Vec::new();
    for contender in Contender::ALL {
        if let Some(server) = field.server(contender) {
            check(server, contender);
            measured.extend(CONNECTIONS.map(|connections| Measured::new(contender, connections)));
        }
    }
    for round in 0..ROUNDS {
        // Each round begins with another contender.
        let begin = round * (measured.len() / CONNECTIONS.len()) / ROUNDS * CONNECTIONS.len();
        for turn in 0..measured.len() {
            let place = (begin + turn) % measured.len();
            let Measured { contender, connections, .. } = measured[place];
            let server = field.server(contender).expect("it was measured before");
            let (load, processor) = measure(&stage, server, contender, connections, seconds);
            eprintln!(
                "peers: round {}, {contender:?}, {connections} at once: {:.3} ms, {:.1} requests/s",
                round + 1,
                load.median,
                load.rate
            );
            measured[place].add(load, processor);
        }
    }
    let endurance = endurance::run(&field.embedded, Contender::Warm);
    let report = Report {
        machine: machine::describe(field.docker.is_some()),
        seconds,
        docker_seconds: docker_seconds(seconds),
        measured,
        endurance,
    };
    drop(stage);
    let section = report.to_string();
    println!("{section}");
    page.write(&section);
    eprintln!("peers: written into {}", file.display());
}

/// One answer that is what it should be. The load's own are only asked for their status.
fn check(server: &Server, contender: Contender) {
    let response = Connection::open(server.address).get(contender.path());
    assert_eq!((response.status, response.text().as_str()), (200, contender.greeting()), "{contender:?}");
}

/// One run, after a short one that does not count: nothing is measured before caches and waiting sandboxes are there.
fn measure(
    stage: &Stage,
    server: &Server,
    contender: Contender,
    connections: usize,
    seconds: u64,
) -> (Load, f64) {
    let seconds = if contender == Contender::Docker { docker_seconds(seconds) } else { seconds };
    let run = |seconds| load::run(stage, server, contender.path(), connections, seconds);
    run(if contender == Contender::Docker { 3 } else { 1 });
    account::processor_time(&server.roots(), || run(seconds))
}

fn docker_seconds(seconds: u64) -> u64 {
    seconds.max(LEAST_SECONDS_FOR_DOCKER)
}
