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
