//! What was measured, as a section of a page: tables, and what was to be reached.

use std::fmt;

use super::ROUNDS;
use super::contender::Contender;
use super::endurance::Endurance;
use super::exercise::{ECHO, Exercise};
use super::measured::{Measured, Results};
use super::targets;

/// All of it. Displayed, it is the section.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) seconds: u64,
    pub(crate) slow_seconds: u64,
    /// The file's name, beside the page.
    pub(crate) chart: String,
    pub(crate) results: Results,
    pub(crate) endurance: Option<Endurance>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        writeln!(
            f,
            "![Requests a second at 8 connections and the median at 1, for each server, beside lighttpd]({})\n",
            self.chart
        )?;
        writeln!(
            f,
            "Medians of {ROUNDS} rounds of {} s each; of {} s for what takes long.\n",
            self.seconds, self.slow_seconds
        )?;
        if !self.results.0.iter().any(|one| one.contender.needs_docker()) {
            writeln!(f, "No Docker Engine answered or was wanted: its rows are left out.\n")?;
        }
        self.table(f, "The static hello:", &[Exercise::Hello, Exercise::Ready])?;
        self.table(f, "A script in Perl, with `use strict`:", &[Exercise::Perl])?;
        self.table(f, "A script in PHP, by php-cgi without settings:", &[Exercise::Php])?;
        self.table(f, "A thousand lines, each by a write of its own:", &[Exercise::Stream])?;
        self.echoes(f)?;
        if let Some(endurance) = &self.endurance {
            writeln!(f, "{endurance}")?;
        }
        targets::write(f, &self.results, self.endurance.as_ref())
    }
}

impl Report {
    fn table(&self, f: &mut fmt::Formatter<'_>, title: &str, exercises: &[Exercise]) -> fmt::Result {
        let mut rows: Vec<&Measured> =
            self.results.0.iter().filter(|one| exercises.contains(&one.exercise)).collect();
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_by_key(|one| one.connections);
        writeln!(f, "{title}\n")?;
        header(
            f,
            &[
                "at once",
                "server",
                "median",
                "p99",
                "requests/s",
                "median : lighttpd",
                "requests/s : lighttpd",
                "CPU: server and programs",
                "CPU: dcgi alone",
                "CPU: machine",
                "memory: server",
                "memory: and programs",
                "requests",
                "errors",
            ],
        )?;
        for one in rows {
            // What rests between its requests is beside what does not.
            let base = self.results.find(Contender::Lighttpd, exercises[0], one.connections);
            let against = |value: fn(&Measured) -> f64| base.map(|base| value(one) / value(base));
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                one.connections,
                name(one),
                time(Some(one.median())),
                time(Some(one.p99())),
                figure(Some(one.rate()), 1, ""),
                figure(against(Measured::median), 2, ""),
                figure(against(Measured::rate), 3, ""),
                time(one.together()),
                time(one.own()),
                time(Some(one.machine())),
                figure(one.peak(), 1, " MiB"),
                figure(one.peak_together(), 1, " MiB"),
                one.requests(),
                errors(one),
            )?;
        }
        writeln!(f)
    }

    fn echoes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<&Measured> = self.results.0.iter().filter(|one| one.exercise.is_echo()).collect();
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(f, "An echo of {} MiB, by a program that answers\n", ECHO >> 20)?;
        header(
            f,
            &[
                "when",
                "server",
                "time",
                "throughput",
                ": nginx",
                "memory: server",
                "memory: and programs",
                "errors",
            ],
        )?;
        for one in rows {
            let base = self.results.find(Contender::Nginx, one.exercise, 1);
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                if one.exercise == Exercise::Echo { "at once, piece by piece" } else { "once it has all" },
                name(one),
                time(Some(one.median())),
                figure(Some(one.rate() * ECHO as f64 / 1e6), 0, " MB/s"),
                figure(base.map(|base| one.rate() / base.rate()), 2, ""),
                figure(one.peak(), 1, " MiB"),
                figure(one.peak_together(), 1, " MiB"),
                errors(one),
            )?;
        }
        writeln!(f)
    }
}

fn header(f: &mut fmt::Formatter<'_>, titles: &[&str]) -> fmt::Result {
    writeln!(f, "| {} |", titles.join(" | "))?;
    writeln!(f, "|{}", " --- |".repeat(titles.len()))
}

/// A contender's name, and whether it has rested.
pub(crate) fn name(one: &Measured) -> String {
    let rested = if one.exercise == Exercise::Ready { ", after a pause" } else { "" };
    format!("{}{rested}", one.contender.name())
}

fn errors(one: &Measured) -> String {
    match (one.requests(), one.errors()) {
        (0, _) => match one.inability() {
            Some(reason) => format!("unable: {reason}"),
            None => "no answer".to_owned(),
        },
        (_, errors) => errors.to_string(),
    }
}

/// A dash for what is not known, or means nothing.
pub(crate) fn figure(value: Option<f64>, digits: usize, unit: &str) -> String {
    match value.filter(|value| value.is_finite()) {
        Some(value) => format!("{value:.digits$}{unit}"),
        None => "–".to_owned(),
    }
}

/// Milliseconds, with as many digits as mean something.
pub(crate) fn time(milliseconds: Option<f64>) -> String {
    let digits = match milliseconds {
        Some(long) if long >= 100.0 => 0,
        Some(long) if long >= 10.0 => 1,
        Some(tiny) if tiny < 0.5 => 3,
        _ => 2,
    };
    figure(milliseconds, digits, " ms")
}
