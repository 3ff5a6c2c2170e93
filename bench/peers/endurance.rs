//! Many requests, one after the other: whether dcgi gets slower or larger by them, and what it leaves.

use std::time::{Duration, Instant};

use super::server::Server;
use super::support::client::Connection;
use super::support::median;
use super::{Contender, account};

const SLICES: usize = 10;
const SLICE: usize = 1000;

/// A route that nobody asks for gives up what it has after some ten seconds. It gets many times that.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Endurance {
    /// Of each slice, in milliseconds.
    pub(crate) medians: Vec<f64>,
    /// Of dcgi's own process, in MiB.
    pub(crate) resident: f64,
    /// Of all its processes together, in MiB, where they may be looked at.
    pub(crate) together: Option<f64>,
    /// Its processes, and cgroups of slots, at the end of the load.
    pub(crate) busy: (usize, usize),
    /// The same after a while without a request.
    pub(crate) idle: (usize, usize),
    /// How long that took.
    pub(crate) settled_after: Duration,
}

/// # Panics
/// Where an answer is not what the program says.
pub(crate) fn run(server: &Server, contender: Contender) -> Endurance {
    let mut connection = Connection::open(server.address);
    let mut request = || {
        let began = Instant::now();
        let response = connection.get(contender.path());
        let milliseconds = began.elapsed().as_secs_f64() * 1e3;
        assert!(response.status == 200 && response.complete, "{response:?}");
        assert_eq!(response.text(), contender.greeting());
        milliseconds
    };
    (0..SLICE / 10).for_each(|_| _ = request());
    let medians = (0..SLICES).map(|_| median((0..SLICE).map(|_| request()).collect())).collect();

    let roots = server.roots();
    let [pid] = roots[..] else { panic!("dcgi is one process") };
    let processes = account::tree(&roots);
    let busy = (processes.len(), account::cgroups(pid));
    let (resident, together) = (account::resident(pid), account::proportional(&processes));
    let began = Instant::now();
    let idle = loop {
        let processes = account::tree(&roots);
        let left = (processes.len(), account::cgroups(pid));
        // dcgi and its zygote are there for as long as dcgi is.
        if left == (2, 0) || began.elapsed() > PATIENCE {
            break left;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    Endurance { medians, resident, together, busy, idle, settled_after: began.elapsed() }
}
