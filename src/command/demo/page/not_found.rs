//! What no route knows: the route `/` gets it, and this is its answer.

use std::io::{self, Write};

use super::html;
use super::request::Request;

/// Says that there is nothing.
pub(super) fn answer(request: &mut Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    let why = format!(
        "There is nothing at {}. A program said so, in a container of its own: its answer began with the line \
         \u{201c}Status: 404 Not Found\u{201d}.",
        request.variable("PATH_INFO")
    );
    html::refuse(request, out, "404 Not Found", "", &why)
}
