//! `/stream`: an answer that takes its time, and arrives while it is made.

use std::io::{self, Write};
use std::time::Duration;

use super::html::{self, text_head};
use super::request::Request;

/// How many lines, and how long before each but the first.
const LINES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// Prints a line each half second for ten seconds: as a page, or with the query `events` as server-sent events
/// (HTML Standard §9.2). It need not look whether anybody reads: where the client leaves, its container goes.
pub(super) fn answer(request: &mut Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    if request.variable("QUERY_STRING") == "events" { events(request, out) } else { page(request, out) }
}

fn page(request: &Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    html::begin(out, "A stream")?;
    if request.is_head() {
        return Ok(());
    }
    out.write_all(
        b"<h1>A line each half second</h1>\n\
          <p class=\"lead\">This page is still being printed while you read it. There is no script in it.</p>\n\
          <p>dcgi passes on what a program prints as soon as it does, and a reader who is slow slows the program down. \
          Leave before the end, and the container goes at once.</p>\n<ol class=\"stream\">\n",
    )?;
    lines(request, out, |out, line| {
        writeln!(out, "<li>{:.1} s, process {}</li>", seconds(line), request.place.process)
    })?;
    out.write_all(
        b"</ol>\n<p>That was all of it. There is the same \
          <a href=\"/stream?events\">as server-sent events</a>, for a program to read.</p>\n",
    )?;
    html::end(out, request)
}

fn events(request: &Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    text_head(out, "text/event-stream")?;
    if request.is_head() {
        return Ok(());
    }
    lines(request, out, |out, line| {
        let of = request.place.process;
        write!(out, "id: {line}\ndata: {{\"seconds\": {:.1}, \"process\": {of}}}\n\n", seconds(line))
    })?;
    // Without it a browser would begin again, with a request of its own.
    out.write_all(b"event: end\ndata: {}\n\n")
}

fn lines(
    request: &Request<'_>,
    out: &mut dyn Write,
    print: impl Fn(&mut dyn Write, u32) -> io::Result<()>,
) -> io::Result<()> {
    for line in 0..LINES {
        if line > 0 {
            (request.place.pause)(PAUSE);
        }
        print(out, line)?;
        // Else it would wait here until there is more.
        out.flush()?;
    }
    Ok(())
}

fn seconds(line: u32) -> f64 {
    (PAUSE * line).as_secs_f64()
}
