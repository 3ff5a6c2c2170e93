//! Why there is no answer, and what the client gets instead: the one place where failures become statuses.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use humantime::format_duration;

use super::admission::Refusal;
use super::body::Body;
use crate::cgi::{ChunkedError, HeaderBlockError, HostError, PathError};
use crate::engine::{EngineError, EngineErrorKind, ExitStatus};
use crate::reason::Reason;

/// Seconds after which a client may try again when the engine is away.
const ENGINE_RETRY_AFTER: u64 = 5;

/// What `Allow` says of a file.
const READ: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// What `Allow` says: programs get any method, and these are those that clients know.
pub(crate) const ALLOWED: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Why a request has no answer, or only part of one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("malformed request: {0}")]
    MalformedPath(#[from] PathError),
    #[error("malformed request: {0}")]
    MalformedHost(#[from] HostError),
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    #[error(
        "the request has Forwarded and X-Forwarded-*, of which one is its client's own: which of them the proxy in front writes, \
         `proxy_headers` has to say"
    )]
    UnclearProxy,
    #[error("CONNECT asks for a tunnel, and this is no proxy")]
    Tunnel,
    #[error("it is a file, which is read and nothing else")]
    NotAllowed,
    #[error("the client is in none of the route's `allow_from`")]
    Denied,
    #[error("the client has asked more often than the route's `rate_limit` ({limit}) lets it")]
    TooMany { limit: String, retry_after: u64 },
    #[error("the route is for users who are named, with their passwords (`auth`)")]
    Unauthorized { realm: String },
    #[error("more passwords are being worked out than there is time for")]
    UsersBusy,
    #[error("the file system that the users' file is on does not answer ({})", format_duration(*.0))]
    UsersSilent(Duration),
    #[error("who may come in cannot be known")]
    Users(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no route matches")]
    NoRoute,
    #[error("nothing is served there: {0}")]
    NoFile(String),
    #[error("it is not served: {0}")]
    Forbidden(String),
    #[error("what the route serves cannot be had for now")]
    FilesExhausted(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the file system that the route's directory is on does not answer ({})", format_duration(*.0))]
    FilesSilent(Duration),
    #[error("what the route serves cannot be had")]
    Files(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "the request's header fields are more than a program can be given, whatever `max_header_size` says: 128 KiB in one \
         variable, 1008 KiB with all that it has anyway (`env`, and the image's)"
    )]
    HeadTooLarge,
    #[error("the request body is larger than the route's `max_request_body` ({})", ByteSize::b(*.0))]
    RequestTooLarge(u64),
    #[error("the request body did not arrive within the route's `{limit}` ({})", format_duration(*.of))]
    RequestTooSlow { limit: &'static str, of: Duration },
    #[error("the request body cannot be spooled")]
    Spool(#[source] std::io::Error),
    #[error("the client went away")]
    ClientGone,
    #[error("{}", match refusal {
        Refusal::QueueFull => "all places (`max_concurrency`) are taken and the queue (`queue`) is full",
        Refusal::WaitedTooLong => "waited for a place for longer than `queue_timeout`",
    })]
    Busy { refusal: Refusal, retry_after: u64 },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{error} ({status})")]
    NoHeaderBlock { error: HeaderBlockError, status: ExitStatus },
    #[error("malformed header block: {0}")]
    BadHeaderBlock(HeaderBlockError),
    #[error("the program printed nothing ({0})")]
    NothingPrinted(ExitStatus),
    #[error("the program was {0}")]
    Killed(ExitStatus),
    #[error("the program's output cannot be read")]
    Output(#[source] std::io::Error),
    #[error("the program's chunked body is malformed: {0}")]
    BadChunk(#[from] ChunkedError),
    #[error("the program's chunked body has no end")]
    NoLastChunk,
    #[error("the program's Content-Length is {declared}, but it printed {}", match printed {
        Some(printed) => format!("{printed} bytes"),
        None => "more".to_owned(),
    })]
    WrongLength { declared: u64, printed: Option<u64> },
    #[error("the program printed more than the route's `max_response_body` ({})", ByteSize::b(*.0))]
    ResponseTooLarge(u64),
    #[error("the route's `timeout` passed ({})", format_duration(*.0))]
    DeadlinePassed(Duration),
    #[error("no byte either way for the route's `idle_timeout` ({})", format_duration(*.0))]
    Idle(Duration),
    #[error("the server is shutting down")]
    Interrupted,
    #[error("more than {} local redirects", super::MAX_LOCAL_REDIRECTS)]
    TooManyRedirects,
}

impl Failure {
    /// The status that the client gets, where it can still get one.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::MalformedPath(_)
            | Self::MalformedHost(_)
            | Self::Malformed(_)
            | Self::UnclearProxy
            | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::Tunnel | Self::NotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoRoute | Self::NoFile(_) => StatusCode::NOT_FOUND,
            Self::Forbidden(_) | Self::Denied => StatusCode::FORBIDDEN,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::UsersBusy | Self::UsersSilent(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Users(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RequestTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Spool(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy { .. } | Self::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
            Self::Engine(error) if error.is_unreachable() => StatusCode::SERVICE_UNAVAILABLE,
            // Between a program and us there is nothing but the engine.
            Self::Output(_) | Self::FilesExhausted(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Engine(_)
            | Self::Files(_)
            | Self::NoHeaderBlock { .. }
            | Self::BadHeaderBlock(_)
            | Self::NothingPrinted(_)
            | Self::Killed(_)
            | Self::BadChunk(_)
            | Self::NoLastChunk
            | Self::WrongLength { .. }
            | Self::ResponseTooLarge(_)
            | Self::TooManyRedirects => StatusCode::BAD_GATEWAY,
            Self::DeadlinePassed(_) | Self::Idle(_) | Self::FilesSilent(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy { retry_after, .. } | Self::TooMany { retry_after, .. } => Some(*retry_after),
            Self::UsersBusy | Self::UsersSilent(_) => Some(ENGINE_RETRY_AFTER),
            Self::Engine(error) if error.is_unreachable() => Some(ENGINE_RETRY_AFTER),
            Self::Output(_) | Self::FilesExhausted(_) => Some(ENGINE_RETRY_AFTER),
            _ => None,
        }
    }

    /// Whether the connection is not to be used again. Over HTTP/2, where streams end by themselves, servers drop the field
    /// that says so.
    ///
    /// SECURITY: who sends what is malformed means something else by it than we do, maybe in what comes next too; and behind a
    /// CONNECT comes what was meant for the tunnel.
    fn ends_connection(&self) -> bool {
        self.status() == StatusCode::BAD_REQUEST || matches!(self, Self::Tunnel)
    }

    /// Logs it: at error where the operator must act, at warn where a program's author must, else at info.
    pub(crate) fn log(&self, consequence: &str) {
        let reason = Reason(self);
        match self {
            Self::Engine(error) if error.kind() != EngineErrorKind::Unreachable => {
                tracing::error!("{reason}; {consequence}");
            }
            Self::Spool(_) | Self::Files(_) | Self::Users(_) => tracing::error!("{reason}; {consequence}"),
            Self::MalformedPath(_)
            | Self::MalformedHost(_)
            | Self::Malformed(_)
            | Self::Tunnel
            | Self::NoRoute
            | Self::NotAllowed
            | Self::Unauthorized { .. }
            | Self::NoFile(_) => tracing::debug!("{reason}; {consequence}"),
            Self::ClientGone
            | Self::Forbidden(_)
            | Self::Denied
            | Self::TooMany { .. }
            | Self::HeadTooLarge
            | Self::RequestTooLarge(_)
            | Self::RequestTooSlow { .. } => {
                tracing::info!("{reason}; {consequence}");
            }
            _ => tracing::warn!("{reason}; {consequence}"),
        }
    }

    /// The page that the client gets: the status and the request's id, and with `details` the reason and the
    /// program's last complaints.
    pub(crate) fn page(&self, request_id: &str, details: Option<&[String]>) -> Response<Body> {
        let status = self.status();
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{status}</title></head>\n\
             <body>\n<h1>{status}</h1>\n"
        );
        if let Some(complaints) = details {
            page.push_str(&format!("<p>{}</p>\n", Escaped(&Reason(self).to_string())));
            if !complaints.is_empty() {
                let lines = complaints.join("\n");
                page.push_str(&format!("<p>Standard error:</p>\n<pre>{}</pre>\n", Escaped(&lines)));
            }
        }
        page.push_str(&format!("<p>Request {}</p>\n</body></html>\n", Escaped(request_id)));

        let mut response = Response::new(Body::full(page));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, if let Self::NotAllowed = self { READ } else { ALLOWED });
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Self::Unauthorized { realm } = self {
            // RFC 7617 §2; that names are in UTF-8 (§2.1). A realm is configured without what would end it.
            let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
            headers
                .extend(HeaderValue::try_from(challenge).ok().map(|challenge| (WWW_AUTHENTICATE, challenge)));
        }
        response
    }
}

/// Text, for a page.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                c => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn page(failure: &Failure, details: Option<&[String]>) -> String {
        let body = failure.page("id-1", details).into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_error_page_names_the_status_and_the_request_and_nothing_else() {
        let page = page(&Failure::NothingPrinted(ExitStatus::Exited(3)), None).await;
        assert!(page.contains("502 Bad Gateway") && page.contains("id-1"), "{page}");
        assert!(!page.contains("printed") && !page.contains("exit status"), "{page}");
    }

    #[tokio::test]
    async fn a_debugging_page_adds_reason_and_complaints_without_their_markup() {
        let complaints = ["<script>alert(1)</script>".to_owned()];
        let page = page(&Failure::NothingPrinted(ExitStatus::Exited(3)), Some(&complaints)).await;
        assert!(page.contains("the program printed nothing (exit status 3)"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
    }

    #[test]
    fn a_full_queue_tells_when_to_come_again() {
        let busy = Failure::Busy { refusal: Refusal::QueueFull, retry_after: 7 };
        let page = busy.page("id-1", None);
        assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(page.headers()[RETRY_AFTER], "7");
    }

    #[test]
    fn a_limit_that_was_reached_is_named_with_its_value() {
        for (failure, said) in [
            (
                Failure::Idle(Duration::from_secs(10)),
                "no byte either way for the route's `idle_timeout` (10s)",
            ),
            (Failure::DeadlinePassed(Duration::from_secs(90)), "the route's `timeout` passed (1m 30s)"),
            (
                Failure::RequestTooLarge(16 << 20),
                "the request body is larger than the route's `max_request_body` (16.0 MiB)",
            ),
        ] {
            assert_eq!(failure.to_string(), said);
        }
    }

    #[test]
    fn a_reason_says_each_level_once() {
        let io = std::io::Error::other("disk full");
        assert_eq!(Reason(&Failure::Spool(io)).to_string(), "the request body cannot be spooled: disk full");
    }
}
