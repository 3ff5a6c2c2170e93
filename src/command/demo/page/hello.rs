//! `/hello`: the smallest program.

use std::io::{self, Write};

use super::fields::first;
use super::html::{self, Escaped, text_head};
use super::request::Request;

/// Greets: whom the query's `name` says, else everyone. In plain text, or as a page for who asks for one.
pub(super) fn answer(request: &mut Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    let query = request.query();
    let name = first(&query, "name").unwrap_or_default();
    let greeting = match name {
        "" => "Hello from a container!".to_owned(),
        name => format!("Hello, {name}, from a container!"),
    };
    if !request.wants_page() {
        text_head(out, "text/plain")?;
        return writeln!(out, "{greeting}");
    }
    html::begin(out, "Hello")?;
    write!(
        out,
        "<h1>{greeting}</h1>\n\
         <p class=\"lead\">curl gets it from the smallest program there is: it prints a header line, a blank line and a \
         greeting. Your browser asked for a page, and so it printed one.</p>\n<pre>curl '{base}/hello?name=Ada'</pre>\n\
         <form action=\"/hello\" method=\"get\">\n\
         <label>Name <input name=\"name\" value=\"{name}\" autocomplete=\"off\"></label>\n\
         <button>Greet</button>\n</form>\n",
        greeting = Escaped(&greeting),
        base = Escaped(&request.base()),
        name = Escaped(name),
    )?;
    html::end(out, request)
}
