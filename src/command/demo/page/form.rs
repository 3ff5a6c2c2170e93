//! `/form`: what browsers send, in all three ways that HTML has.

use std::io::{self, Read, Write};

use super::fields::{self, Fields, first};
use super::html::{self, Escaped};
use super::multipart::Multipart;
use super::request::Request;
use super::upload::Content;

/// How long a form without files may be. It is held in memory.
const LONGEST: u64 = 64 << 10;

/// How many parts of an upload are shown.
const MOST_PARTS: usize = 100;

/// Shows what was sent, and the forms to send something with.
pub(super) fn answer(request: &mut Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    let content_type = request.variable("CONTENT_TYPE").to_owned();
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // Printed once all is read: until then the status may still become another.
    let mut shown = Vec::new();
    match (request.variable("REQUEST_METHOD"), kind.as_str()) {
        ("POST", "application/x-www-form-urlencoded") => {
            let mut text = Vec::new();
            (&mut *request.input).take(LONGEST + 1).read_to_end(&mut text)?;
            if text.len() as u64 > LONGEST {
                let why = "A form without files may have 64 KiB here.";
                return html::refuse(request, out, "413 Content Too Large", "", why);
            }
            show_fields("POST", &fields::parse(&String::from_utf8_lossy(&text)), &mut shown)?;
        }
        ("POST", "multipart/form-data") => match show_parts(&content_type, request.input, &mut shown) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let why = format!("That is no form: {error}.");
                return html::refuse(request, out, "400 Bad Request", "", &why);
            }
            Err(error) => return Err(error),
        },
        ("POST", _) => {
            let why = "This page reads what HTML forms send: application/x-www-form-urlencoded and multipart/form-data.";
            return html::refuse(request, out, "415 Unsupported Media Type", "", why);
        }
        _ => {
            let fields = request.query();
            if !fields.is_empty() {
                show_fields("GET", &fields, &mut shown)?;
            }
        }
    }
    let query = request.query();
    let again = |name| first(&query, name).unwrap_or_default();
    html::begin(out, "Forms")?;
    out.write_all(
        b"<h1>Forms</h1>\n\
          <p class=\"lead\">Three ways to send something to a program, as HTML has had them since the nineties.</p>\n",
    )?;
    out.write_all(&shown)?;
    write!(
        out,
        include_str!("form.html"),
        name = Escaped(again("name")),
        message = Escaped(again("message")),
        base = Escaped(&request.base()),
    )?;
    html::end(out, request)
}

fn show_fields(how: &str, fields: &Fields, out: &mut dyn Write) -> io::Result<()> {
    let greeting = match first(fields, "name").filter(|name| !name.is_empty()) {
        Some(name) => format!("Hello, {name}."),
        None => "Thank you.".to_owned(),
    };
    let place = if how == "GET" { "in QUERY_STRING" } else { "on standard input" };
    write!(
        out,
        "<section class=\"result\"><h2>{}</h2>\n<p>This came {place}, by {how}:</p>\n<table>\n",
        Escaped(&greeting)
    )?;
    for (name, value) in fields {
        Content::read(value.as_bytes())?.show_text(name, out)?;
    }
    out.write_all(b"</table></section>\n")
}

fn show_parts(content_type: &str, input: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
    let no_boundary = || io::Error::new(io::ErrorKind::InvalidData, "its Content-Type names no boundary");
    let mut parts = Multipart::new(content_type, input).ok_or_else(no_boundary)?;
    out.write_all(b"<section class=\"result\"><h2>It has arrived.</h2>\n<div class=\"wide\"><table>\n")?;
    let mut count = 0;
    while let Some(part) = parts.next()? {
        count += 1;
        if count > MOST_PARTS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it has more than 100 parts"));
        }
        let content = Content::read(&mut parts)?;
        match part.filename.as_deref() {
            None => content.show_text(&part.name, out)?,
            Some("") if content.size == 0 => {
                out.write_all(
                    b"<tr><th scope=\"row\">File</th><td class=\"none\">none was chosen</td></tr>\n",
                )?;
            }
            Some(filename) => content.show_file(&part, filename, out)?,
        }
    }
    out.write_all(b"</table></div>\n<p>Read once, piece by piece, kept nowhere.</p></section>\n")
}
