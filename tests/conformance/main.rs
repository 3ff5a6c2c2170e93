//! The CGI contract, as a client sees it: every case runs on every engine and isolation there is.
//!
//! One server a mode, shared by all cases; each case is a sentence, and asserts it on the bytes of a response.

#[path = "../common/mod.rs"]
mod common;

mod body;
mod failure;
mod header;
mod limits;
mod request;
mod response;
mod routing;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Trial};

use common::engine::{open_folder, take_back_cgroups};
use common::server::FOLDER;
use common::{Server, Under};

/// A sentence, and what shows it.
type Case = (&'static str, fn(&Server));

/// One engine and isolation under which all cases run.
struct Mode {
    /// How it is called in a case's name.
    name: &'static str,
    /// The engine, as the configuration names it.
    engine: &'static str,
    /// How many containers wait for requests.
    warm: &'static str,
    under: fn(&Path) -> Under,
}

const MODES: &[Mode] = &[
    Mode { name: "docker::fresh", engine: "docker", warm: "0", under: |_| Under::Docker },
    Mode { name: "embedded::fresh::cold", engine: "embedded", warm: "0", under: Under::embedded },
    Mode { name: "embedded::fresh::warm", engine: "embedded", warm: "2", under: Under::embedded },
    Mode {
        name: "embedded::fresh::ordinary_user",
        engine: "embedded",
        warm: "'auto'",
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
        limits::CASES,
        routing::CASES,
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
        for (name, case) in cases.into_iter().flatten().chain(own) {
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
        let routes = include_str!("routes.toml").replace("warm = 0", &format!("warm = {}", self.warm));
        let config = format!("engine = \"{}\"\n{routes}", self.engine);
        let folder = folder.join(self.name.replace("::", "-"));
        std::fs::create_dir(&folder).unwrap();
        Server::start_under((self.under)(&folder), &config, |_| {})
    }
}
