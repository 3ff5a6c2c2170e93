//! The lines of a whole header block, and what they say together.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::error::quote;
use super::location::local_target;
use super::status::Status;
use super::{Answer, Head, HeaderBlockError, LocalRedirect, MAX_LINES};
use crate::cgi::hop_by_hop::{connection_options, is_hop_by_hop};

/// A header block whose every line is well-formed.
pub(super) struct Fields {
    /// What a non-parsed-header script prints first, as if it were the server.
    pub(super) status_line: Option<Status>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Fields {
    /// Reads a block of at most [`MAX_LINES`] lines that ends with its blank line. `None` where a line is not
    /// well-formed: continued lines and spaces around a name are among those.
    pub(super) fn parse(block: &[u8]) -> Option<Self> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
        let mut status_line = None;
        let lines: &[httparse::Header<'_>] = if block.starts_with(b"HTTP/") {
            let mut response = httparse::Response::new(&mut lines);
            response.parse(block).ok().filter(httparse::Status::is_complete)?;
            status_line = Some(Status::from_line(response.code?, response.reason?)?);
            response.headers
        } else {
            let httparse::Status::Complete((_, lines)) = httparse::parse_headers(block, &mut lines).ok()?
            else {
                return None;
            };
            lines
        };
        let header = |line: &httparse::Header<'_>| {
            let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(line.value).ok()?))
        };
        Some(Self { status_line, headers: lines.iter().map(header).collect::<Option<_>>()? })
    }

    /// Takes out of the headers what is said to the server and not to the client. `None` where the block is a
    /// 1xx one, which is no answer.
    pub(super) fn answer(self) -> Result<Option<Answer>, HeaderBlockError> {
        let nph = self.status_line.is_some();
        let (mut status, mut reason) =
            self.status_line.map_or((None, None), |line| (Some(line.code), line.reason));
        let (mut location, mut content_length) = (None, None);
        let mut repeated = Vec::new();
        let (mut connection, mut transfer_codings) = (Vec::new(), Vec::new());
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in self.headers {
            match name {
                header::CONNECTION => connection.push(value),
                header::TRANSFER_ENCODING => transfer_codings.push(value),
                header::CONTENT_LENGTH => once("Content-Length", &mut content_length, parse_length(&value)?)?,
                header::LOCATION => {
                    let value = check_location(value)?;
                    if location.replace(value.clone()).is_some_and(|first| first != value) {
                        repeated.push(name);
                    }
                }
                _ if name == "status" => {
                    let given = Status::parse(value.as_bytes()).ok_or_else(|| bad_status(&value))?;
                    once("Status", &mut status, given.code)?;
                    reason = reason.or(given.reason);
                }
                _ if is_hop_by_hop(&name) => {}
                _ if is_singleton(&name) => {
                    if headers.insert(name.clone(), value.clone()).is_some_and(|first| first != value) {
                        repeated.push(name);
                    }
                }
                _ => {
                    headers.append(name, value);
                }
            }
        }
        if status.is_some_and(|code| code.is_informational()) {
            return Ok(None);
        }
        for named in connection.iter().flat_map(connection_options) {
            headers.remove(named);
        }
        for name in repeated {
            tracing::warn!(
                "the program printed more than one `{name}`, which an answer has once: the last one counts"
            );
        }

        if status.is_none()
            && let Some(location) = location.as_ref().and_then(|value| local_target(value.as_bytes()))
        {
            let set_cookie = headers.get_all(header::SET_COOKIE).into_iter().cloned().collect();
            return Ok(Some(Answer::LocalRedirect(LocalRedirect { location, set_cookie })));
        }

        let implied = if location.is_some() { StatusCode::FOUND } else { StatusCode::OK };
        let status = status.unwrap_or(implied);
        headers.extend(location.map(|value| (header::LOCATION, value)));
        // What is chunked has its length from its chunks (RFC 9112 §6.3).
        let chunked = nph
            && matches!(&transfer_codings[..], [only] if only.as_bytes().eq_ignore_ascii_case(b"chunked"));
        let content_length = content_length.filter(|_| !chunked);
        // RFC 9110 §8.6: 204 never says a length.
        let said = content_length.filter(|_| status != StatusCode::NO_CONTENT);
        headers.extend(said.map(|length: u64| (header::CONTENT_LENGTH, length.into())));

        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = status;
        parts.headers = headers;
        if let Some(reason) = reason {
            parts.extensions.insert(reason);
        }
        Ok(Some(Answer::Response(Head { parts, content_length, chunked })))
    }
}

/// Whether a field says one thing of the whole answer. Said twice, readers would choose, and not the same: a proxy the
/// first, the browser behind it the last.
fn is_singleton(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::ACCESS_CONTROL_ALLOW_ORIGIN
            | header::AGE
            | header::CONTENT_DISPOSITION
            | header::CONTENT_LOCATION
            | header::CONTENT_RANGE
            | header::CONTENT_TYPE
            | header::DATE
            | header::ETAG
            | header::EXPIRES
            | header::LAST_MODIFIED
            | header::RETRY_AFTER
            | header::SERVER
    )
}

/// Takes the value of a header that stands for one thing and changes what the others mean. Saying it twice is harmless, saying two things is not.
fn once<T: PartialEq>(name: &'static str, slot: &mut Option<T>, value: T) -> Result<(), HeaderBlockError> {
    match slot {
        Some(first) if *first != value => Err(HeaderBlockError::Conflicting(name)),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// Digits only: a list, a sign or a number that does not fit is how two readers come to two lengths.
fn parse_length(value: &HeaderValue) -> Result<u64, HeaderBlockError> {
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or_else(|| bad_header("Content-Length", value))
}

/// A tab is the one control character that a header value may hold, and a location may not.
fn check_location(value: HeaderValue) -> Result<HeaderValue, HeaderBlockError> {
    if value.is_empty() || value.as_bytes().contains(&b'\t') {
        return Err(bad_header("Location", &value));
    }
    Ok(value)
}

fn bad_header(name: &'static str, value: &HeaderValue) -> HeaderBlockError {
    HeaderBlockError::BadHeader { name, value: quote(value.as_bytes()) }
}

fn bad_status(value: &HeaderValue) -> HeaderBlockError {
    HeaderBlockError::BadStatus(quote(value.as_bytes()))
}
