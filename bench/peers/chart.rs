//! The two figures that say most, as a drawing (SVG): requests a second at 8 connections, beside lighttpd, and the median
//! at 1. On scales of powers of ten, for there are three of them between a process and a container of Docker's.

use std::fmt::Write;

use super::contender::Contender;
use super::exercise::Exercise;
use super::measured::{Measured, Results};
use super::report;

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 28.0;
/// Where names end, and bars begin.
const LEFT: f64 = 284.0;
/// Where the longest bar ends. What is right of it is for its figure.
const RIGHT: f64 = 700.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;

/// It has a background of its own: a page may be light or dark.
const STYLE: &str = "text { font: 13px system-ui, 'Helvetica Neue', Arial, sans-serif; fill: #1f2933 } \
    .title { font-size: 16px; font-weight: 600 } .small { font-size: 12px; fill: #52606d } \
    .grid { stroke: #e4e7eb } .one { stroke: #7b8794; stroke-dasharray: 4 3 }";

/// What kind a contender is, with its colour.
const KINDS: [(&str, &str); 4] = [
    ("dcgi, embedded engine", "#2563a8"),
    ("dcgi, Docker", "#1a9a8a"),
    ("CGI without a container", "#8a94a0"),
    ("a container in other ways", "#d9922b"),
];

fn colour(contender: Contender) -> &'static str {
    let kind = match contender {
        Contender::EmbeddedWarm | Contender::EmbeddedCold | Contender::EmbeddedShared => 0,
        Contender::DockerWarm | Contender::DockerCold | Contender::DockerShared => 1,
        Contender::Lighttpd | Contender::Nginx | Contender::Apache => 2,
        Contender::DockerRun | Contender::BareApi | Contender::Crun => 3,
    };
    KINDS[kind].1
}

/// A bar: whose, how long, and what is written behind it.
struct Bar {
    name: String,
    colour: &'static str,
    value: f64,
    label: String,
}

/// The whole picture.
pub(crate) fn draw(results: &Results) -> String {
    let rates = rates(results);
    let medians = medians(results);
    let mut body = String::new();
    let mut y = MARGIN + 8.0;
    let mut x = MARGIN;
    for (name, colour) in KINDS {
        _ = write!(body, r#"<rect x="{x}" y="{}" width="12" height="12" rx="2" fill="{colour}"/>"#, y - 10.0);
        text(&mut body, x + 18.0, y, "", name);
        x += 206.0;
    }
    y += 40.0;
    panel(
        &mut body,
        &mut y,
        "Requests a second at 8 connections, × lighttpd (longer is better)",
        &rates,
        "×",
    );
    panel(&mut body, &mut y, "Median at 1 connection, milliseconds (shorter is better)", &medians, "ms");
    let note =
        "The static hello. Scales are powers of ten; figures are from one run, all servers taking turns.";
    text(&mut body, MARGIN, y, "small", note);
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"Requests a second and medians, by server\">\n\
         <style>{STYLE}</style>\n<rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\" fill=\"#ffffff\" \
         stroke=\"#cbd2d9\"/>\n{body}</svg>\n",
        WIDTH - 1.0,
        height - 1.0
    )
}

/// Best first.
fn rates(results: &Results) -> Vec<Bar> {
    let base = results.value(Measured::rate, Contender::Lighttpd, Exercise::Hello, 8);
    let mut bars = bars(results, 8, |one| {
        let ratio = one.rate() / base?;
        let digits = if ratio < 0.1 { 4 } else { 2 };
        let rate = one.rate();
        let rate = if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") };
        Some((ratio, format!("{ratio:.digits$} × ({rate}/s)")))
    });
    bars.sort_by(|one, other| other.value.total_cmp(&one.value));
    bars
}

/// Best first.
fn medians(results: &Results) -> Vec<Bar> {
    let mut bars = bars(results, 1, |one| Some((one.median(), report::time(Some(one.median())))));
    bars.sort_by(|one, other| one.value.total_cmp(&other.value));
    bars
}

fn bars(
    results: &Results,
    connections: usize,
    value: impl Fn(&Measured) -> Option<(f64, String)>,
) -> Vec<Bar> {
    let hello = |one: &&Measured| {
        matches!(one.exercise, Exercise::Hello | Exercise::Ready) && one.connections == connections
    };
    let ours = results.0.iter().filter(hello);
    ours.filter_map(|one| {
        let (value, label) = value(one)?;
        (value.is_finite() && value > 0.0).then(|| Bar {
            name: report::name(one),
            colour: colour(one.contender),
            value,
            label,
        })
    })
    .collect()
}

/// Draws bars below a title, and leaves `y` below them.
fn panel(body: &mut String, y: &mut f64, title: &str, bars: &[Bar], unit: &str) {
    if bars.is_empty() {
        return;
    }
    text(body, MARGIN, *y, "title", title);
    *y += 18.0;
    let powers = bars.iter().map(|bar| bar.value.log10());
    // The shortest bar is to be seen.
    let low = (powers.clone().fold(f64::INFINITY, f64::min) - 0.2).floor();
    let high = powers.fold(f64::NEG_INFINITY, f64::max).max(low + 0.5);
    let place = |power: f64| LEFT + (RIGHT - LEFT) * (power - low) / (high - low);
    let bottom = *y + ROW * bars.len() as f64;
    for power in low as i32..=high.floor() as i32 {
        let x = place(f64::from(power));
        let class = if power == 0 && unit == "×" { "one" } else { "grid" };
        _ = write!(body, r#"<line class="{class}" x1="{x:.1}" y1="{y:.1}" x2="{x:.1}" y2="{bottom:.1}"/>"#);
        let label = format!("{} {unit}", 10_f64.powi(power));
        anchored(body, x, bottom + 16.0, "small", "middle", &label);
    }
    for bar in bars {
        let middle = *y + ROW / 2.0;
        anchored(body, LEFT - 10.0, middle + 4.5, "", "end", &bar.name);
        let width = place(bar.value.log10()) - LEFT;
        _ = write!(
            body,
            r#"<rect x="{LEFT}" y="{:.1}" width="{width:.1}" height="{BAR}" rx="2" fill="{}"/>"#,
            middle - BAR / 2.0,
            bar.colour
        );
        let x = LEFT + width + 8.0;
        // Behind it, the grid would run through.
        _ = write!(
            body,
            r##"<rect x="{:.1}" y="{:.1}" width="{}" height="{BAR}" fill="#ffffff"/>"##,
            x - 3.0,
            middle - BAR / 2.0,
            7 * bar.label.chars().count() + 8
        );
        text(body, x, middle + 4.5, "", &bar.label);
        *y += ROW;
    }
    *y = bottom + 56.0;
}

fn text(body: &mut String, x: f64, y: f64, class: &str, text: &str) {
    anchored(body, x, y, class, "start", text);
}

fn anchored(body: &mut String, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    _ = writeln!(body, r#"<text x="{x:.1}" y="{y:.1}" class="{class}" text-anchor="{anchor}">{text}</text>"#);
}
