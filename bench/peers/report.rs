//! What was measured, as a section of a page: tables, and what was to be reached.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::endurance::Endurance;
use super::load::Load;
use super::support::median;
use super::{Contender, ROUNDS};

const BEGIN: &str = "<!-- peers: begin -->";
const END: &str = "<!-- peers: end -->";

/// The most memory that dcgi's own process may have in the end, in MiB.
const MOST_RESIDENT: f64 = 32.0;

/// How much slower the last three slices may be than the first three, for what a machine wavers by.
const MOST_SLOWDOWN: f64 = 1.1;

/// A page that has a place for the section.
#[derive(Debug)]
pub(crate) struct Page {
    file: PathBuf,
}

impl Page {
    pub(crate) fn open(file: &Path) -> Self {
        let page = Self { file: file.to_owned() };
        page.parts();
        page
    }

    /// What is before the section, and behind it.
    fn parts(&self) -> (String, String) {
        let text =
            fs::read_to_string(&self.file).unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
        let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let (before, behind) = parts.unwrap_or_else(|| panic!("{}: no {BEGIN} … {END}", self.file.display()));
        (before.to_owned(), behind.to_owned())
    }

    pub(crate) fn write(&self, section: &str) {
        let (before, behind) = self.parts();
        fs::write(&self.file, format!("{before}{BEGIN}\n{section}\n{END}{behind}")).unwrap();
    }
}

/// A contender's rounds with so many connections.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) contender: Contender,
    pub(crate) connections: usize,
    loads: Vec<Load>,
    /// Of the server and its programs, in seconds, all rounds together.
    processor: f64,
}

impl Measured {
    pub(crate) fn new(contender: Contender, connections: usize) -> Self {
        Self { contender, connections, loads: Vec::new(), processor: 0.0 }
    }

    pub(crate) fn add(&mut self, load: Load, processor: f64) {
        self.loads.push(load);
        self.processor += processor;
    }

    /// The median over the rounds.
    fn of(&self, value: fn(&Load) -> f64) -> f64 {
        median(self.loads.iter().map(value).collect())
    }

    fn median(&self) -> f64 {
        self.of(|load| load.median)
    }

    fn rate(&self) -> f64 {
        self.of(|load| load.rate)
    }

    /// Of a request. fcgiwrap ignores `SIGCHLD`, so its programs' time is on nobody's account.
    fn processor_time(&self) -> String {
        match self.contender {
            Contender::Nginx => "–".to_owned(),
            _ => time(self.processor * 1e3 / self.requests() as f64),
        }
    }

    fn requests(&self) -> u64 {
        self.loads.iter().map(|load| load.requests).sum()
    }
}

/// All of it. Displayed, it is the section.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) seconds: u64,
    pub(crate) docker_seconds: u64,
    pub(crate) measured: Vec<Measured>,
    pub(crate) endurance: Endurance,
}

impl Report {
    fn find(&self, contender: Contender, connections: usize) -> Option<&Measured> {
        let fits = |one: &&Measured| one.contender == contender && one.connections == connections;
        self.measured.iter().find(fits)
    }

    /// How one contender is to another, where both were measured.
    fn ratio(
        &self,
        value: fn(&Measured) -> f64,
        of: Contender,
        to: Contender,
        connections: usize,
    ) -> Option<f64> {
        Some(value(self.find(of, connections)?) / value(self.find(to, connections)?))
    }

    fn table(&self, f: &mut fmt::Formatter<'_>, rows: &[(Contender, &str)]) -> fmt::Result {
        let base = rows[0].0;
        writeln!(
            f,
            "| at once | server | median | p99 | requests/s | median : lighttpd | requests/s : lighttpd | CPU a request | requests | errors |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for connections in super::CONNECTIONS {
            for (contender, name) in rows {
                let Some(one) = self.find(*contender, connections) else { continue };
                let against = |value| self.ratio(value, *contender, base, connections).unwrap_or(f64::NAN);
                writeln!(
                    f,
                    "| {connections} | {name} | {} | {} | {:.1} | {:.2} | {:.3} | {} | {} | 0 |",
                    time(one.median()),
                    time(one.of(|load| load.p99)),
                    one.rate(),
                    against(Measured::median),
                    against(Measured::rate),
                    one.processor_time(),
                    one.requests()
                )?;
            }
        }
        writeln!(f)
    }

    fn targets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Contender::{Docker, Lighttpd, LighttpdPerl, Warm, WarmPerl};
        let slowdown = self.endurance.slowdown();
        let resident = self.endurance.resident;
        let warm = self.ratio(Measured::median, Warm, Lighttpd, 1);
        let rate = self.ratio(Measured::rate, Warm, Lighttpd, 8);
        let docker = self.ratio(Measured::rate, Warm, Docker, 8);
        let perl = self.ratio(Measured::median, WarmPerl, LighttpdPerl, 1);
        let most = |most: f64| move |value: f64| value <= most;
        let least = |least: f64| move |value: f64| value >= least;
        writeln!(f, "| target | measured | |\n| --- | --- | --- |")?;
        target(f, "median at 1, warm: at most 1.5 × lighttpd", warm, "×", most(1.5))?;
        target(f, "requests/s at 8, warm: at least 0.33 × lighttpd", rate, "×", least(0.33))?;
        target(f, "the same, as an aim: at least 0.5 × lighttpd", rate, "×", least(0.5))?;
        target(f, "requests/s at 8, warm: at least 60 × Docker", docker, "×", least(60.0))?;
        target(f, "median at 1, Perl: at most 1.3 × lighttpd", perl, "×", most(1.3))?;
        target(
            f,
            "no slowdown: last three slices at most 1.1 × the first three",
            Some(slowdown),
            "×",
            most(MOST_SLOWDOWN),
        )?;
        target(f, "resident memory in the end: below 32 MiB", Some(resident), "MiB", |value| {
            value < MOST_RESIDENT
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Contender::{Cold, Docker, Lighttpd, LighttpdPerl, Nginx, Warm, WarmPerl};
        let docker = self.find(Docker, 1).is_some();
        writeln!(f, "{}\n", self.machine)?;
        let seconds = if docker && self.docker_seconds != self.seconds {
            format!("{} s ({} s for Docker)", self.seconds, self.docker_seconds)
        } else {
            format!("{} s", self.seconds)
        };
        writeln!(f, "Medians of {ROUNDS} rounds of {seconds} each.\n\nThe static hello:\n")?;
        self.table(
            f,
            &[
                (Lighttpd, "lighttpd, mod_cgi"),
                (Nginx, "nginx, fcgiwrap"),
                (Warm, "dcgi, embedded"),
                (Cold, "dcgi, embedded, `warm = 0`"),
                (Docker, "dcgi, Docker"),
            ],
        )?;
        writeln!(f, "fcgiwrap does not account for its programs' processor time.\n")?;
        if docker {
            writeln!(f, "With Docker, the processor time is dcgi's alone: the engine's is not in it.\n")?;
        } else {
            writeln!(f, "No Docker Engine answered here: its rows are left out.\n")?;
        }
        writeln!(f, "A script in Perl, with `use strict`:\n")?;
        self.table(f, &[(LighttpdPerl, "lighttpd, mod_cgi"), (WarmPerl, "dcgi, embedded")])?;
        writeln!(f, "{}", self.endurance)?;
        self.targets(f)
    }
}

impl Endurance {
    /// The last three slices against the first three.
    fn slowdown(&self) -> f64 {
        let first: f64 = self.medians.iter().take(3).sum();
        let last: f64 = self.medians.iter().rev().take(3).sum();
        last / first
    }
}

impl fmt::Display for Endurance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Then 10 times 1,000 requests to the same dcgi, one after the other:\n")?;
        let columns = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
        writeln!(f, "{}", columns((1..=self.medians.len()).map(|slice| slice.to_string()).collect()))?;
        writeln!(f, "{}", columns(self.medians.iter().map(|_| "---".to_owned()).collect()))?;
        writeln!(f, "{}\n", columns(self.medians.iter().copied().map(time).collect()))?;
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

/// A row. What could not be measured is neither met nor missed.
fn target(
    f: &mut fmt::Formatter<'_>,
    text: &str,
    value: Option<f64>,
    unit: &str,
    met: impl Fn(f64) -> bool,
) -> fmt::Result {
    match value {
        Some(value) => {
            let verdict = if met(value) { "met" } else { "**missed**" };
            writeln!(f, "| {text} | {value:.2} {unit} | {verdict} |")
        }
        None => writeln!(f, "| {text} | | not measured |"),
    }
}

/// Milliseconds, with as many digits as mean something.
fn time(milliseconds: f64) -> String {
    match milliseconds {
        long if long >= 100.0 => format!("{long:.0} ms"),
        long if long >= 10.0 => format!("{long:.1} ms"),
        short => format!("{short:.2} ms"),
    }
}
