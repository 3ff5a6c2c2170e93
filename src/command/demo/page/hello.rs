//! `/hello`: the smallest program.

use std::io::{self, Write};

use super::fields::first;
use super::html::text_head;
use super::request::Request;

/// Greets, in plain text: whom the query's `name` says, else everyone.
pub(super) fn answer(request: &mut Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    text_head(out, "text/plain")?;
    match first(&request.query(), "name").filter(|name| !name.is_empty()) {
        Some(name) => writeln!(out, "Hello, {name}, from a container!"),
        None => writeln!(out, "Hello from a container!"),
    }
}
