//! Many requests, one after the other: whether dcgi gets slower or larger by them, and what it leaves.

use std::fmt;
use std::time::{Duration, Instant};

use super::exercise::Exercise;
use super::report::time;
use super::server::Server;
use super::support::client::Connection;
use super::support::median;
use super::{account, cgroup};

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
pub(crate) fn run(server: &Server) -> Endurance {
    let mut connection = Connection::open(server.address);
    let mut request = || {
        let began = Instant::now();
        let response = connection.get(Exercise::Hello.path());
        let milliseconds = began.elapsed().as_secs_f64() * 1e3;
        assert!(response.status == 200 && response.complete, "{response:?}");
        assert!(Exercise::Hello.is_answer(&response.text()), "{response:?}");
        milliseconds
    };
    (0..SLICE / 10).for_each(|_| _ = request());
    let medians = (0..SLICES).map(|_| median((0..SLICE).map(|_| request()).collect())).collect();

    let roots = server.roots();
    let [pid] = roots[..] else { panic!("dcgi is one process") };
    let processes = account::tree(&roots);
    let busy = (processes.len(), cgroup::count(pid));
    let (resident, together) = (account::resident(pid), account::proportional(&processes));
    let began = Instant::now();
    let idle = loop {
        let processes = account::tree(&roots);
        let left = (processes.len(), cgroup::count(pid));
        // dcgi and its zygote are there for as long as dcgi is.
        if left == (2, 0) || began.elapsed() > PATIENCE {
            break left;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    Endurance { medians, resident, together, busy, idle, settled_after: began.elapsed() }
}

impl Endurance {
    /// The last three slices against the first three.
    pub(crate) fn slowdown(&self) -> f64 {
        let first: f64 = self.medians.iter().take(3).sum();
        let last: f64 = self.medians.iter().rev().take(3).sum();
        last / first
    }
}

impl fmt::Display for Endurance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Then 10 times 1,000 requests to the same embedded dcgi, fresh, one after the other:\n")?;
        let columns = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
        writeln!(f, "{}", columns((1..=self.medians.len()).map(|slice| slice.to_string()).collect()))?;
        writeln!(f, "{}", columns(self.medians.iter().map(|_| "---".to_owned()).collect()))?;
        writeln!(f, "{}\n", columns(self.medians.iter().map(|median| time(Some(*median))).collect()))?;
        writeln!(f, "| what | figure |\n| --- | --- |")?;
        writeln!(f, "| dcgi's resident memory | {:.1} MiB |", self.resident)?;
        if let Some(together) = self.together {
            writeln!(f, "| all its processes', what they share counted once | {together:.1} MiB |")?;
        }
        writeln!(f, "| processes, cgroups under load | {}, {} |", self.busy.0, self.busy.1)?;
        let seconds = self.settled_after.as_secs_f64();
        writeln!(
            f,
            "| processes, cgroups after {seconds:.0} s without a request | {}, {} |",
            self.idle.0, self.idle.1
        )
    }
}
