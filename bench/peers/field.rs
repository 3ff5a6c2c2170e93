//! All that is compared, ready to be asked.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::closed;
use super::contender::Contender;
use super::crun::Crun;
use super::echo;
use super::exercise::{ECHO, Exercise};
use super::load::{self, Load};
use super::program::Programs;
use super::server::{self, Server};
use super::stage::{self, Stage};
use super::support::{api, client::Connection};
use super::{dcgi, docker_run, rootfs};

/// How many requests a round of [`Exercise::Ready`] has, and the pause before each. A container is made in less.
pub(crate) const READY: (usize, Duration) = (7, Duration::from_millis(1500));

/// How many echoes a round has.
const ECHOES: usize = 2;

/// What answers.
#[derive(Debug)]
pub(crate) enum Entrant {
    Server(Server),
    /// The engine's socket, and a create request.
    Api(String, String),
    Crun(Crun),
}

thread_local! {
    /// Kept open, as wrk's are.
    static CONNECTION: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

impl Entrant {
    /// Processes whose use of the machine is the contender's.
    pub(crate) fn roots(&self) -> Vec<u32> {
        match self {
            Self::Server(server) => server.roots(),
            Self::Api(..) => Vec::new(),
            Self::Crun(crun) => crun.roots(),
        }
    }

    /// One answer, asked for what it says.
    ///
    /// # Errors
    /// With what is wrong with it.
    fn check(&self, exercise: Exercise) -> Result<(), String> {
        match self {
            Self::Server(server) if exercise.is_echo() => {
                echo::run(server.address, exercise.path(), ECHO).map_err(|error| error.to_string())
            }
            Self::Server(server) => {
                let response = Connection::open(server.address).get(exercise.path());
                let good = response.status == 200 && exercise.is_answer(&response.text());
                if good { Ok(()) } else { Err(format!("{} {}", response.status_line, response.text())) }
            }
            Self::Api(..) | Self::Crun(_) if self.ask(exercise) => Ok(()),
            Self::Api(..) | Self::Crun(_) => Err("not the program's answer".to_owned()),
        }
    }

    /// One request on a connection that is kept. True where it is answered well.
    fn ask(&self, exercise: Exercise) -> bool {
        let says_hello = |output: &str| output.contains("Hello from a container!");
        match self {
            Self::Server(server) => {
                let mut connection = CONNECTION.take().unwrap_or_else(|| Connection::open(server.address));
                let response = connection.get(exercise.path());
                let good = response.status == 200 && response.complete;
                CONNECTION.set(Some(connection).filter(|_| good));
                good
            }
            Self::Api(socket, body) => says_hello(&String::from_utf8_lossy(&api::run(socket, body))),
            Self::Crun(crun) => says_hello(&crun.run()),
        }
    }

    /// One run.
    pub(crate) fn run(
        &self,
        stage: &Stage,
        contender: Contender,
        exercise: Exercise,
        connections: usize,
        seconds: u64,
    ) -> Load {
        // The last contender's.
        CONNECTION.set(None);
        match self {
            Self::Server(server) if exercise.is_echo() => closed::paced(ECHOES, Duration::ZERO, || {
                let result = echo::run(server.address, exercise.path(), ECHO);
                if let Err(error) = &result {
                    eprintln!("peers: {contender:?}, {exercise:?}: {error}");
                }
                result.is_ok()
            }),
            _ if exercise == Exercise::Ready => closed::paced(READY.0, READY.1, || self.ask(exercise)),
            Self::Server(server) if !contender.is_slow() => {
                load::run(stage, server, exercise.path(), connections, seconds)
            }
            _ => closed::run(connections, Duration::from_secs(seconds), || self.ask(exercise)),
        }
    }
}

/// Starts those that are wanted and possible here.
pub(crate) fn start(stage: &Stage, wanted: &[Contender]) -> Vec<(Contender, Entrant)> {
    let programs = Programs::build(stage);
    rootfs::write_archives(stage, &programs);
    let store = rootfs::import(stage);
    let docker = wanted.iter().any(|contender| contender.needs_docker()) && rootfs::import_into_docker(stage);
    let possible = wanted.iter().filter(|contender| docker || !contender.needs_docker());
    possible
        .map(|&contender| {
            let entrant = match contender {
                Contender::Lighttpd => {
                    Entrant::Server(server::lighttpd(stage, "lighttpd", &programs.folder, &programs))
                }
                Contender::Nginx => Entrant::Server(server::nginx(stage, &programs)),
                Contender::Apache => Entrant::Server(server::apache(stage, &programs)),
                Contender::DockerRun => Entrant::Server(docker_run::start(stage, &programs)),
                Contender::BareApi => Entrant::Api(api::socket(), labelled(&dcgi::container(stage))),
                Contender::Crun => Entrant::Crun(Crun::prepare(stage)),
                contender => Entrant::Server(dcgi::start(stage, contender, &store)),
            };
            (contender, entrant)
        })
        .collect()
}

/// A create request whose container the stage will find.
fn labelled(body: &str) -> String {
    let mut body: serde_json::Value = serde_json::from_str(body).unwrap();
    let label = stage::label();
    let (name, value) = label.split_once('=').unwrap();
    body["Labels"][name] = value.into();
    body.to_string()
}

/// Why a contender does not do what it is asked for, in a line, if so. It is then left out.
pub(crate) fn inability(contender: Contender, entrant: &Entrant, exercise: Exercise) -> Option<String> {
    let check = || catch_unwind(AssertUnwindSafe(|| entrant.check(exercise)));
    let result = stage::undisturbed(|| check().unwrap_or_else(|_| Err("no answer".to_owned())))?;
    let error = result.err()?;
    eprintln!("peers: {contender:?} cannot do {exercise:?}: {error}");
    Some(error.lines().next().unwrap_or_default().replace('|', " "))
}
