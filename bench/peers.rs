//! dcgi in each of its ways, beside servers that put no walls around a program, and beside other ways to a container. The
//! same programs, the same load, in one run, all taking turns, so that a machine that gets slower gets slower for
//! everybody. The result is written into `docs/benchmarks.md`, between two comments, and drawn beside it.

#![allow(clippy::disallowed_methods, reason = "no runtime's thread is blocked")]

#[path = "peers/account.rs"]
mod account;
#[path = "peers/cgroup.rs"]
mod cgroup;
#[path = "peers/chart.rs"]
mod chart;
#[path = "peers/closed.rs"]
mod closed;
#[path = "peers/contender.rs"]
mod contender;
#[path = "peers/crun.rs"]
mod crun;
#[path = "peers/dcgi.rs"]
mod dcgi;
#[path = "peers/docker_run.rs"]
mod docker_run;
#[path = "peers/echo.rs"]
mod echo;
#[path = "peers/endurance.rs"]
mod endurance;
#[path = "peers/exercise.rs"]
mod exercise;
#[path = "peers/field.rs"]
mod field;
#[path = "peers/load.rs"]
mod load;
#[path = "peers/machine.rs"]
mod machine;
#[path = "peers/measured.rs"]
mod measured;
#[path = "peers/page.rs"]
mod page;
#[path = "peers/program.rs"]
mod program;
#[path = "peers/report.rs"]
mod report;
#[path = "peers/rootfs.rs"]
mod rootfs;
#[path = "peers/server.rs"]
mod server;
#[path = "peers/stage.rs"]
mod stage;
#[path = "support/mod.rs"]
mod support;
#[path = "peers/targets.rs"]
mod targets;
#[path = "peers/tool.rs"]
mod tool;

use std::path::{Path, PathBuf};

use account::Usage;
use contender::Contender;
use exercise::Exercise;
use field::Entrant;
use load::Load;
use measured::{Measured, Results};
use report::Report;
use stage::Stage;

const ROUNDS: usize = 3;

/// The default of `PEERS_SECONDS`: all of it takes a quarter of an hour.
const SECONDS: u64 = 2;

/// A few containers a second are made: below this, there would be nothing to take a median of.
const LEAST_SECONDS_FOR_SLOW: u64 = 4;

fn main() {
    let seconds = std::env::var("PEERS_SECONDS").map_or(SECONDS, |text| text.parse().expect("PEERS_SECONDS"));
    let file = std::env::var_os("PEERS_FILE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md"), PathBuf::from);
    let wanted = wanted();
    // A file without the place for it is better known now than in minutes.
    let page = page::Page::open(&file);

    let stage = Stage::set();
    let field = field::start(&stage, &wanted);
    let results = run(&stage, &field, seconds);
    let endurance = field.iter().find_map(|(contender, entrant)| match entrant {
        Entrant::Server(server) if *contender == Contender::EmbeddedWarm => Some(endurance::run(server)),
        _ => None,
    });
    let report = Report {
        machine: machine::describe(results.0.iter().any(|one| one.contender.needs_docker())),
        seconds,
        slow_seconds: slow(seconds),
        chart: page.chart().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        results,
        endurance,
    };
    drop(stage);
    let section = report.to_string();
    println!("{section}");
    page.write(&section, &chart::draw(&report.results));
    eprintln!("peers: written into {} and {}", file.display(), page.chart().display());
}

/// `PEERS_ONLY`, or all.
fn wanted() -> Vec<Contender> {
    let Ok(only) = std::env::var("PEERS_ONLY") else { return Contender::ALL.to_vec() };
    only.split(',')
        .map(|key| {
            let found = Contender::ALL.into_iter().find(|contender| contender.key() == key.trim());
            found.unwrap_or_else(|| {
                panic!("PEERS_ONLY: no {key:?} among {}", Contender::ALL.map(Contender::key).join(", "))
            })
        })
        .collect()
}

/// All rounds. Those who do the same are asked one after the other, each round beginning with another one.
fn run(stage: &Stage, field: &[(Contender, Entrant)], seconds: u64) -> Results {
    let mut results = Results::default();
    for exercise in Exercise::ALL {
        for (contender, entrant) in field {
            let connections = exercise.connections(*contender);
            if connections.is_empty() {
                continue;
            }
            let inability = field::inability(*contender, entrant, exercise);
            results.0.extend(connections.iter().map(|at| match &inability {
                Some(why) => Measured::unable(*contender, exercise, *at, why),
                None => Measured::new(*contender, exercise, *at),
            }));
        }
    }
    results
        .0
        .sort_by_key(|one| (Exercise::ALL.iter().position(|known| *known == one.exercise), one.connections));
    for round in 0..ROUNDS {
        for group in results
            .0
            .chunk_by_mut(|one, other| (one.exercise, one.connections) == (other.exercise, other.connections))
        {
            let begin = round * group.len() / ROUNDS;
            for turn in 0..group.len() {
                let one = &mut group[(begin + turn) % group.len()];
                let place = field.iter().find(|(contender, _)| *contender == one.contender);
                if let Some((_, entrant)) = place.filter(|_| one.inability().is_none()) {
                    let (load, usage) = measure(stage, entrant, one, seconds);
                    eprintln!(
                        "peers: round {}, {:?}, {:?}, {} at once: {:.3} ms, {:.1} requests/s, {} errors",
                        round + 1,
                        one.contender,
                        one.exercise,
                        one.connections,
                        load.median,
                        load.rate,
                        load.errors
                    );
                    one.add(load, usage);
                }
            }
        }
    }
    results
}

/// One run, after a short one that does not count: nothing is measured before caches and waiting sandboxes are there.
fn measure(stage: &Stage, entrant: &Entrant, one: &Measured, seconds: u64) -> (Load, Usage) {
    let run = |seconds| entrant.run(stage, one.contender, one.exercise, one.connections, seconds);
    if !one.exercise.is_echo() && one.exercise != Exercise::Ready {
        run(1);
    }
    let seconds = if one.contender.is_slow() { slow(seconds) } else { seconds };
    account::observe(&entrant.roots(), || run(seconds))
}

fn slow(seconds: u64) -> u64 {
    seconds.max(LEAST_SECONDS_FOR_SLOW)
}
