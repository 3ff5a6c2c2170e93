//! The CGI contract, as a client sees it: every case runs on every engine and isolation there is.
//!
//! One server a mode, shared by all cases; each case is a sentence, and asserts it on the bytes of a response.

#[path = "../common/mod.rs"]
mod common;

mod body;
mod ending;
mod failure;
mod header;
mod limits;
mod request;
mod response;
mod routing;
mod scripts;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Trial};

use common::docker::docker;
use common::engine::{open_folder, take_back_cgroups};
use common::server::FOLDER;
use common::{PATIENCE, Server, Under, wait_until};

/// A sentence, and what shows it.
type Case = (&'static str, fn(&Server));

/// One engine and isolation under which all cases run.
struct Mode {
    /// How it is called in a case's name.
    name: &'static str,
    /// The engine, as the configuration names it.
    engine: &'static str,
    /// How requests get their containers, as a route says it.
    containers: &'static str,
    under: fn(&Path) -> Under,
}

const COLD: &str = "warm = 0";
const SHARED: &str = "isolation = 'shared'";

const MODES: &[Mode] = &[
    Mode { name: "docker::fresh::cold", engine: "docker", containers: COLD, under: |_| Under::Docker },
    Mode {
        name: "docker::fresh::warm",
        engine: "docker",
        containers: "warm = 1",
        under: |_| Under::DockerAgents,
    },
    Mode { name: "docker::shared", engine: "docker", containers: SHARED, under: |_| Under::DockerAgents },
    Mode { name: "embedded::fresh::cold", engine: "embedded", containers: COLD, under: Under::embedded },
    Mode {
        name: "embedded::fresh::warm",
        engine: "embedded",
        containers: "warm = 2",
        under: Under::embedded,
    },
    Mode { name: "embedded::shared", engine: "embedded", containers: SHARED, under: Under::embedded },
    Mode {
        name: "embedded::fresh::ordinary_user",
        engine: "embedded",
        containers: "warm = 'auto'",
        under: Under::embedded_as_ordinary_user,
    },
];

/// Lists the cases of a file. One that is not listed is dead code, and the lints refuse that.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::Case] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use cases;

fn main() {
    let mut arguments = Arguments::from_args();
    // Most of a case is waiting for a container.
    arguments.test_threads.get_or_insert(8);

    let cases = [
        request::CASES,
        header::CASES,
        body::CASES,
        response::CASES,
        failure::CASES,
        ending::CASES,
        limits::CASES,
        routing::CASES,
        scripts::CASES,
    ];
    let folder = open_folder();
    FOLDER.set(folder.clone()).expect("nobody else sets it");
    let mut trials = Vec::new();
    let mut servers = Vec::new();
    for mode in MODES {
        let server: Arc<OnceLock<Server>> = Arc::default();
        servers.push(server.clone());
        let own = match mode.engine {
            "docker" => failure::CASES_OF_DOCKER,
            _ => failure::CASES_OF_EMBEDDED,
        };
        let isolation = match mode.containers {
            SHARED => limits::CASES_OF_SHARED,
            _ => limits::CASES_OF_FRESH,
        };
        for (name, case) in cases.into_iter().flatten().chain(own).chain(isolation) {
            let (server, folder) = (server.clone(), folder.clone());
            trials.push(Trial::test(format!("{}::{name}", mode.name), move || {
                case(server.get_or_init(|| mode.serve(&folder)));
                Ok(())
            }));
        }
    }
    let listed = trials.len();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        let ran = conclusion.num_passed + conclusion.num_failed;
        println!(
            "conformance: {ran} of {listed} cases ran, over {} mode(s) of engine and isolation",
            MODES.len()
        );
    }
    // Before the exit, which drops nothing: a server left would be a leak of ours.
    drop(servers);
    take_back_cgroups();
    _ = std::fs::remove_dir_all(folder);
    conclusion.exit();
}

impl Mode {
    fn serve(&self, folder: &Path) -> Server {
        let routes = include_str!("routes.toml").replace(COLD, self.containers);
        // A shared container has an agent as its process 1: what is about programs that are that themselves stays fresh.
        let routes = routes.replace("init = false", "isolation = 'fresh'\ninit = false");
        let config = format!("engine = \"{}\"\n{routes}", self.engine);
        let folder = folder.join(self.name.replace("::", "-"));
        std::fs::create_dir(&folder).unwrap();
        let server = Server::start_under((self.under)(&folder), &config, |_| {});
        if self.engine == "docker" {
            // Dozens of containers start with it where they stay; an engine stands still meanwhile, and cases have limits.
            wait_until("it serves", PATIENCE, || server.get("/p?text").status == 200);
            let name = format!("name=^/dcgi-{}-", server.pid());
            let starting = ["ps", "-aq", "--filter", &name, "--filter", "status=created"];
            wait_until("containers have started", PATIENCE, || docker(&starting).is_empty());
        }
        server
    }
}
