//! What the pages share: how a response begins, how a page looks, and how text becomes harmless in it.

use std::fmt;
use std::io::{self, Write};

use super::request::Request;

const STYLE: &str = include_str!("style.css");

/// What a page may do in a browser: look as it does, and send its forms back here. No scripts, were there any.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// Prints the header block of a page of text.
pub(super) fn text_head(out: &mut dyn Write, content_type: &str) -> io::Result<()> {
    // Each visit is to have a container of its own, and none a browser's memory.
    write!(
        out,
        "Content-Type: {content_type}; charset=utf-8\nCache-Control: no-store\nX-Content-Type-Options: nosniff\n\n"
    )
}

/// Prints the header block of a page, and the page up to where its content begins.
pub(super) fn begin(out: &mut dyn Write, title: &str) -> io::Result<()> {
    begin_with(out, "", title)
}

/// The same, with further header fields, each with its line break.
pub(super) fn begin_with(out: &mut dyn Write, fields: &str, title: &str) -> io::Result<()> {
    write!(out, "{fields}Content-Security-Policy: {POLICY}\nReferrer-Policy: no-referrer\n")?;
    text_head(out, "text/html")?;
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} · dcgi demo</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<header><a href=\"/\"><b>dcgi</b> demo</a>\n<nav><a href=\"/\">All pages</a>\n\
         <a href=\"/script\">Your own script</a>\n<a href=\"/guide\">The guide</a></nav></header>\n<main>\n",
        title = Escaped(title)
    )
}

/// Prints the end of a page: who made it.
pub(super) fn end(out: &mut dyn Write, request: &Request<'_>) -> io::Result<()> {
    let place = request.place;
    let hostname = place.hostname.as_deref().unwrap_or("without a name");
    write!(
        out,
        "</main>\n<footer>Printed by process {process} in container <code>{hostname}</code>. It served this request \
         and no other, and is gone by now.</footer>\n</body>\n</html>\n",
        process = place.process,
        hostname = Escaped(hostname),
    )
}

/// Prints a whole page that says why there is no other, with further header fields, each with its line break.
pub(super) fn refuse(
    request: &Request<'_>,
    out: &mut dyn Write,
    status: &str,
    fields: &str,
    why: &str,
) -> io::Result<()> {
    begin_with(out, &format!("Status: {status}\n{fields}"), status)?;
    write!(out, "<h1>{}</h1>\n<p class=\"lead\">{}</p>\n", Escaped(status), Escaped(why))?;
    end(out, request)
}

/// Text as it stands in HTML, in an element or in a quoted attribute.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // HTML has no way to write it.
                '\0' => f.write_str("\u{fffd}")?,
                c => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_ends_neither_an_element_nor_an_attribute() {
        let text = "</p><script>'\"&\0é";
        assert_eq!(Escaped(text).to_string(), "&lt;/p&gt;&lt;script&gt;&#39;&quot;&amp;\u{fffd}é");
    }
}
