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

use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Trial};

use common::Server;

/// A sentence, and what shows it.
type Case = (&'static str, fn(&Server));

/// Engine, isolation, and what the configuration says for them.
const MODES: &[(&str, &str, &str)] = &[("docker", "fresh", "engine = \"docker\"\n")];

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
    let mut trials = Vec::new();
    let mut servers = Vec::new();
    for (engine, isolation, config) in MODES {
        let server: Arc<OnceLock<Server>> = Arc::default();
        servers.push(server.clone());
        for (name, case) in cases.into_iter().flatten() {
            let server = server.clone();
            trials.push(Trial::test(format!("{engine}::{isolation}::{name}"), move || {
                case(
                    server.get_or_init(|| Server::start(&format!("{config}{}", include_str!("routes.toml")))),
                );
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
    conclusion.exit();
}
