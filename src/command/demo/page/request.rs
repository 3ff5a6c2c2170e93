//! What a CGI program is given: variables, and an input.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;

use super::fields::{self, Fields};
use super::place::Place;

/// A request, and where it is answered.
pub(super) struct Request<'a> {
    variables: BTreeMap<String, String>,
    /// The body. It ends where the body does.
    pub(super) input: &'a mut dyn Read,
    pub(super) place: &'a Place,
}

impl<'a> Request<'a> {
    /// Bytes that are no UTF-8 become U+FFFD: nothing here needs them.
    pub(super) fn new(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        input: &'a mut dyn Read,
        place: &'a Place,
    ) -> Self {
        let text = |text: OsString| text.to_string_lossy().into_owned();
        let variables = variables.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        Self { variables, input, place }
    }

    /// A variable's value: empty where it is not set, which for CGI is the same (RFC 3875 §4.1).
    pub(super) fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// All of them, by name.
    pub(super) fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// The query's fields.
    pub(super) fn query(&self) -> Fields {
        fields::parse(self.variable("QUERY_STRING"))
    }

    /// Whether only the header block is wanted.
    pub(super) fn is_head(&self) -> bool {
        self.variable("REQUEST_METHOD") == "HEAD"
    }

    /// Whether the client asks for a page, as browsers do and curl does not (RFC 9110 §12.5.1).
    pub(super) fn wants_page(&self) -> bool {
        self.variable("HTTP_ACCEPT").split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let weight = |parameter: &str| parameter.strip_prefix("q=")?.parse().ok();
            let is_refused = |parameter| weight(parameter).is_some_and(|weight: f32| weight <= 0.0);
            parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html")) && !parts.any(is_refused)
        })
    }

    /// The scheme and host that the client asked for, such as `http://127.0.0.1:8080`, for commands to copy: where
    /// the host is nothing that a shell could take for more than a word.
    pub(super) fn base(&self) -> String {
        let host = self.variable("HTTP_HOST");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-');
        let host = if !host.is_empty() && host.chars().all(is_plain) { host } else { "127.0.0.1:8080" };
        let scheme = if self.variable("HTTPS") == "on" { "https" } else { "http" };
        format!("{scheme}://{host}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_for_those_who_ask_for_one() {
        let place = Place::here();
        let wants_page = |accept: &str| {
            let variables = [("HTTP_ACCEPT".into(), accept.into())];
            Request::new(variables, &mut std::io::empty(), &place).wants_page()
        };
        for accept in ["text/html,application/xhtml+xml,*/*;q=0.8", "*/*, Text/HTML; q=0.5", "text/html;q=1"]
        {
            assert!(wants_page(accept), "{accept}");
        }
        for accept in ["", "*/*", "application/json", "text/html;q=0", "text/html; q=0.00, */*", "text/htmlx"]
        {
            assert!(!wants_page(accept), "{accept}");
        }
    }
}
