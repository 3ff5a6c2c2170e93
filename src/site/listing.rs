//! The page that lists a directory.

use std::fmt::{self, Write};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use percent_encoding::utf8_percent_encode;

use super::directory::PATH;
use crate::files::Entry;
use crate::gateway::{Body, Escaped};

/// Lists what is in the directory at a path.
pub(super) fn page(path: &str, entries: &[Entry]) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    _ = write(&mut out, path, entries);
    out
}

fn write(out: &mut String, path: &str, entries: &[Entry]) -> fmt::Result {
    let title = Escaped(path);
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Index of {title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <style>body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 50rem; padding: 0 1rem }}\n\
         table {{ border-collapse: collapse; width: 100% }} td, th {{ padding: 0 1rem 0 0; text-align: left }}\n\
         td.size, th.size {{ text-align: right }}</style></head>\n\
         <body>\n<h1>Index of {title}</h1>\n\
         <table>\n<tr><th>Name</th><th class=\"size\">Size</th><th>Modified</th></tr>\n"
    )?;
    if path.trim_matches('/').contains('/') {
        out.push_str("<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n");
    }
    for Entry { name, is_directory, size, modified } in entries {
        let slash = if *is_directory { "/" } else { "" };
        // With a dot in front: a name may have a colon, as what begins with a scheme has.
        let href = utf8_percent_encode(name, PATH).to_string();
        let href = Escaped(&href);
        write!(
            out,
            "<tr><td><a href=\"./{href}{slash}\">{}{slash}</a></td><td class=\"size\">",
            Escaped(name)
        )?;
        if !is_directory {
            write!(out, "{}", bytesize::ByteSize(*size).display().iec())?;
        }
        out.push_str("</td><td>");
        if let Some(modified) = modified {
            write!(out, "{}", humantime::format_rfc3339_seconds(*modified))?;
        }
        out.push_str("</td></tr>\n");
    }
    out.push_str("</table>\n</body></html>\n");
    Ok(())
}

/// The page as an answer.
pub(super) fn response(page: String) -> Response<Body> {
    let mut response = Response::new(Body::full(page));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_lead_to_where_they_are() {
        let entry =
            |name: &str, is_directory| Entry { name: name.into(), is_directory, size: 2048, modified: None };
        let page = page("/a/<b>/", &[entry("d:e", true), entry("\"><x> %.html", false)]);
        assert!(page.contains("Index of /a/&lt;b&gt;/"), "{page}");
        assert!(page.contains("<a href=\"./d:e/\">d:e/</a>"), "{page}");
        assert!(
            page.contains("<a href=\"./%22%3E%3Cx%3E%20%25.html\">&quot;&gt;&lt;x&gt; %.html</a>"),
            "{page}"
        );
        assert!(page.contains(">2.0 KiB<"), "{page}");
        assert!(page.contains("<a href=\"../\">"), "{page}");
    }
}
