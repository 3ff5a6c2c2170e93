//! `/counter`: a program that remembers, and what becomes of it.

use std::fs;
use std::io::{self, Write};

use super::html::{self, Escaped};
use super::request::Request;

/// Counts its visitors in a file. In a fresh container each of them is the first.
pub(super) fn answer(request: &mut Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    let file = request.place.scratch.join("visitors");
    let before: u64 = match fs::read_to_string(&file) {
        Ok(count) => count.trim().parse().unwrap_or(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let count = before.saturating_add(1);
    fs::write(&file, format!("{count}\n"))?;

    html::begin(out, "A counter")?;
    write!(
        out,
        "<h1>You are visitor number <span class=\"number\">{count}</span>.</h1>\n\
         <p class=\"lead\">So is everyone.</p>\n\
         <p>This program reads a number from <code>{file}</code>, adds one, and writes it back. That works: but the \
         file was in the container, and the container was yours alone. What one request leaves behind, no other \
         finds: no files, no memory, no processes that stayed. Whoever breaks into a program like this one is in a \
         container that no other request ever enters.</p>\n\
         <p>A program that is to remember gets a volume: the key <code>volumes</code> of its route.</p>\n\
         <p><a class=\"button\" href=\"/counter\">Count again</a></p>\n",
        file = Escaped(&file.display().to_string()),
    )?;
    html::end(out, request)
}
