//! What was to be reached, each met or missed.

use std::fmt;

use super::contender::Contender::{
    BareApi, DockerCold, DockerShared, DockerWarm, EmbeddedShared, EmbeddedWarm, Lighttpd, Nginx,
};
use super::endurance::Endurance;
use super::exercise::Exercise::{Hello, LateEcho, Perl, Ready};
use super::measured::{Measured, Results};

/// A bound that belongs to what was reached.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

pub(super) fn write(
    f: &mut fmt::Formatter<'_>,
    results: &Results,
    endurance: Option<&Endurance>,
) -> fmt::Result {
    let rate = |of, to| results.ratio(Measured::rate, of, to, Hello, 8);
    let median = |of| results.ratio(Measured::median, of, Lighttpd, Hello, 1);
    let perl = results.ratio(Measured::median, EmbeddedWarm, Lighttpd, Perl, 1);
    let lighttpd = results.value(Measured::median, Lighttpd, Hello, 1);
    let ready = results.value(Measured::median, DockerWarm, Ready, 1).zip(lighttpd);
    let sustained = results.best_rate(DockerWarm, Hello).zip(results.best_rate(BareApi, Hello));
    let echo = |of| results.ratio(Measured::rate, of, Nginx, LateEcho, 1);
    let own = |of| results.find(of, Hello, 8).and_then(Measured::own).map(|milliseconds| milliseconds * 1e3);
    let ratio = |(of, to): (f64, f64)| of / to;

    writeln!(f, "| target | bound | measured | |\n| --- | --- | --- | --- |")?;
    let mut row = |what: &str, bound: Bound, unit: &str, value: Option<f64>| {
        let (words, met): (String, fn(f64, f64) -> bool) = match bound {
            AtLeast(least) => (format!("at least {least} {unit}"), |value, bound| value >= bound),
            AtMost(most) => (format!("at most {most} {unit}"), |value, bound| value <= bound),
        };
        let (AtLeast(limit) | AtMost(limit)) = bound;
        match value.filter(|value| value.is_finite()) {
            Some(value) => {
                let verdict = if met(value, limit) { "met" } else { "**missed**" };
                writeln!(f, "| {what} | {words} | {value:.2} {unit} | {verdict} |")
            }
            // What could not be measured is neither met nor missed.
            None => writeln!(f, "| {what} | {words} | | not measured |"),
        }
    };
    let lighttpd = "× lighttpd";
    row("embedded, fresh: median at 1", AtMost(1.5), lighttpd, median(EmbeddedWarm))?;
    row("embedded, fresh: requests/s at 8", AtLeast(0.33), lighttpd, rate(EmbeddedWarm, Lighttpd))?;
    row("the same, as an aim", AtLeast(0.5), lighttpd, rate(EmbeddedWarm, Lighttpd))?;
    row("the same", AtLeast(60.0), "× Docker, cold", rate(EmbeddedWarm, DockerCold))?;
    row("embedded, fresh: median at 1, Perl", AtMost(1.3), lighttpd, perl)?;
    for (name, shared) in [("embedded", EmbeddedShared), ("Docker", DockerShared)] {
        let target = |what: &str| format!("{name}, shared: {what}");
        row(&target("requests/s at 8"), AtLeast(1.0), lighttpd, rate(shared, Lighttpd))?;
        row(&target("median at 1"), AtMost(1.2), lighttpd, median(shared))?;
        row(&target("64 MiB echo, throughput"), AtLeast(1.0), "× nginx, fcgiwrap", echo(shared))?;
        row(&target("dcgi's own CPU a request at 8"), AtMost(150.0), "µs", own(shared))?;
    }
    row("Docker, fresh, warm, a container ready: median at 1", AtMost(3.0), lighttpd, ready.map(ratio))?;
    let rested = results.ratio(Measured::median, DockerWarm, Lighttpd, Ready, 1);
    row("the same, where lighttpd has the same pauses", AtMost(3.0), lighttpd, rested)?;
    row(
        "Docker, fresh, warm: requests/s, sustained, best of 1 and 8",
        AtLeast(0.95),
        "× the bare API",
        sustained.map(ratio),
    )?;
    let slowdown = endurance.map(Endurance::slowdown);
    row("endurance: last three slices", AtMost(1.1), "× the first three", slowdown)?;
    row("endurance: dcgi's resident memory", AtMost(32.0), "MiB", endurance.map(|one| one.resident))
}
