//! `/environment`: all that a program is told.

use std::io::{self, Write};

use super::html::{self, Escaped};
use super::request::Request;

/// The meta-variables of RFC 3875 §4.1 and those that Apache adds: name, section, meaning.
const KNOWN: [(&str, &str, &str); 27] = [
    ("AUTH_TYPE", "4.1.1", "How the server authenticated the user"),
    ("CONTENT_LENGTH", "4.1.2", "How many bytes of body standard input holds; only where there is a body"),
    ("CONTENT_TYPE", "4.1.3", "What kind of body it is"),
    ("DOCUMENT_ROOT", "", "The root of the site's files, where the route names one"),
    ("GATEWAY_INTERFACE", "4.1.4", "The version of CGI that is spoken"),
    ("HTTPS", "", "“on” where the client's connection is encrypted"),
    ("PATH_INFO", "4.1.5", "What follows the program's own path"),
    ("PATH_TRANSLATED", "4.1.6", "The same as a file below DOCUMENT_ROOT"),
    ("QUERY_STRING", "4.1.7", "What follows the question mark, as it came"),
    ("REDIRECT_STATUS", "", "For php-cgi, which runs for nobody without it"),
    ("REMOTE_ADDR", "4.1.8", "The client's address"),
    ("REMOTE_HOST", "4.1.9", "The client's name; here the address again"),
    ("REMOTE_IDENT", "4.1.10", "Who the client's machine says the user is (RFC 1413). Never set by dcgi"),
    ("REMOTE_PORT", "", "The client's port"),
    ("REMOTE_USER", "4.1.11", "The user that the server authenticated"),
    ("REQUEST_ID", "", "What the log calls this request, and the response's X-Request-Id"),
    ("REQUEST_METHOD", "4.1.12", "What the client wants to do"),
    ("REQUEST_SCHEME", "", "http or https"),
    ("REQUEST_URI", "", "Path and query as they came, nothing decoded"),
    ("SCRIPT_FILENAME", "", "The program's file, inside the container"),
    ("SCRIPT_NAME", "4.1.13", "The path that leads to the program: the route's"),
    ("SERVER_ADDR", "", "The address that the connection came in at"),
    ("SERVER_NAME", "4.1.14", "The host that the client asked for"),
    ("SERVER_PORT", "4.1.15", "The port that the client asked for"),
    ("SERVER_PROTOCOL", "4.1.16", "The protocol and version of the request"),
    ("SERVER_SOFTWARE", "4.1.17", "Who runs the program"),
    ("UNIQUE_ID", "", "REQUEST_ID under the name that Apache's mod_unique_id gives it"),
];

/// Shows every variable: the request's, and apart from them the route's and the image's.
pub(super) fn answer(request: &mut Request<'_>, out: &mut dyn Write) -> io::Result<()> {
    html::begin(out, "The environment")?;
    out.write_all(
        b"<h1>All that a program is told</h1>\n\
          <p class=\"lead\">A CGI program learns of a request from variables in its environment, and reads the body from \
          standard input. These are the variables of yours.</p>\n\
          <p>Try <a href=\"/environment/some/path?colour=green\">another path and query</a>.</p>\n\
          <h2>Meta-variables</h2>\n\
          <p>What <a href=\"https://www.rfc-editor.org/rfc/rfc3875#section-4.1\">RFC 3875 \xc2\xa74.1</a> defines, and what \
          Apache has added since.</p>\n<div class=\"wide\"><table>\n",
    )?;
    for (name, section, meaning) in &KNOWN {
        let value = request.variables().get(*name).map(String::as_str);
        row(out, name, value, &origin(section), meaning)?;
    }
    out.write_all(b"</table></div>\n<h2>Request headers</h2>\n<p>Each as <code>HTTP_</code> and its name: ")?;
    out.write_all(b"RFC 3875 \xc2\xa74.1.18. A password in <code>Authorization</code> does not get this far.</p>\n<div class=\"wide\"><table>\n")?;
    for (name, value) in request.variables().iter().filter(|(name, _)| name.starts_with("HTTP_")) {
        row(out, name, Some(value), &header(name), "")?;
    }
    out.write_all(
        b"</table></div>\n<h2>The container's own</h2>\n\
          <p>From the route, the image and the engine: the same for every request.</p>\n<div class=\"wide\"><table>\n",
    )?;
    for (name, value) in request.variables().iter().filter(|(name, _)| !is_requests(name)) {
        row(out, name, Some(value), "", "")?;
    }
    out.write_all(b"</table></div>\n")?;
    html::end(out, request)
}

/// Whether a variable tells of the request.
fn is_requests(name: &str) -> bool {
    name.starts_with("HTTP_") || KNOWN.iter().any(|(known, ..)| *known == name)
}

/// Who defines a meta-variable, as HTML.
fn origin(section: &str) -> String {
    match section {
        "" => "Apache".to_owned(),
        section => {
            format!("<a href=\"https://www.rfc-editor.org/rfc/rfc3875#section-{section}\">§{section}</a>")
        }
    }
}

/// The header that a variable holds, as it is mostly spelt and as HTML: `HTTP_USER_AGENT` is `User-Agent`.
fn header(variable: &str) -> String {
    let words = variable.trim_start_matches("HTTP_").split('_').map(|word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_owned() + &rest.to_ascii_lowercase()
    });
    Escaped(&words.collect::<Vec<_>>().join("-")).to_string()
}

/// A row of a table. `aside` is HTML.
fn row(out: &mut dyn Write, name: &str, value: Option<&str>, aside: &str, meaning: &str) -> io::Result<()> {
    write!(out, "<tr><th scope=\"row\"><code>{}</code> <small>{aside}</small>", Escaped(name))?;
    if !meaning.is_empty() {
        write!(out, "<p>{}</p>", Escaped(meaning))?;
    }
    out.write_all(b"</th>")?;
    match value {
        None => out.write_all(b"<td class=\"none\">not set</td></tr>\n"),
        Some("") => out.write_all(b"<td class=\"none\">empty</td></tr>\n"),
        Some(value) => writeln!(out, "<td><code>{}</code></td></tr>", Escaped(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headers_name_is_spelt_as_people_do() {
        assert_eq!(header("HTTP_X_FORWARDED_FOR"), "X-Forwarded-For");
        assert_eq!(header("HTTP_HOST"), "Host");
        assert_eq!(header("HTTP_A__B_"), "A--B-");
    }

    #[test]
    fn the_meta_variables_are_in_order() {
        assert!(KNOWN.is_sorted());
    }
}
