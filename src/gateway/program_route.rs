//! What is configured for a program that answers requests.

use std::time::Duration;

use crate::engine::Program;

/// A program, and how it answers requests.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramRoute {
    /// What runs.
    pub program: Program,
    /// How the program's output is read.
    pub output: Output,
    /// What happens to a request body whose length is not known beforehand.
    pub request_body: RequestBody,
    /// How much, how many and how long.
    pub limits: Limits,
    /// What `SCRIPT_FILENAME` says. Absent: the program's own path.
    pub script_filename: Option<String>,
    /// What `DOCUMENT_ROOT` says, a path inside the container; with it goes `PATH_TRANSLATED`.
    pub document_root: Option<String>,
    /// Whether the program sees the client's `Authorization` header.
    pub pass_authorization: bool,
    /// Header names outside `[A-Za-z0-9-]` that are passed all the same.
    pub allow_headers: Vec<String>,
    /// Whether a query string without `=` is also passed as command-line arguments (RFC 3875 §4.4).
    pub indexed_query: bool,
    /// Whether error pages say what went wrong, with the last lines of standard error.
    pub debug_errors: bool,
}

/// With the safe defaults.
impl From<Program> for ProgramRoute {
    fn from(program: Program) -> Self {
        Self {
            program,
            output: Output::Cgi,
            request_body: RequestBody::Spool,
            limits: Limits::default(),
            script_filename: None,
            document_root: None,
            pass_authorization: false,
            allow_headers: Vec::new(),
            indexed_query: false,
            debug_errors: false,
        }
    }
}
/// How a program's output is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// A header block, a blank line, a body.
    #[default]
    Cgi,
    /// A body and nothing else: the program is a filter from request body to response body.
    Raw {
        /// The response's `Content-Type`. Absent: `application/octet-stream`.
        content_type: Option<String>,
    },
}

/// What happens to a request body whose length is not known beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestBody {
    /// It is taken in whole, so that `CONTENT_LENGTH` is true.
    #[default]
    Spool,
    /// It is handed on as it comes, without `CONTENT_LENGTH`.
    Stream,
}

/// How much, how many and how long. `None` is: no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long the whole request may take.
    pub timeout: Option<Duration>,
    /// How long there may be no byte either way, none on standard error, and none that the client takes.
    pub idle_timeout: Option<Duration>,
    /// How long what a program leaves running may work on after the answer.
    pub linger: Duration,
    /// How long what is asked to end (`SIGTERM`) may take, until it is killed.
    pub kill_grace: Duration,
    /// How many programs run at once.
    pub max_concurrency: usize,
    /// How many requests may wait for one of those places.
    pub queue: usize,
    /// How long a request may wait.
    pub queue_timeout: Duration,
    /// How many bytes a request body may have.
    pub max_request_body: Option<u64>,
    /// How many bytes a response body may have.
    pub max_response_body: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_secs(30)),
            idle_timeout: Some(Duration::from_secs(10)),
            linger: Duration::from_secs(5),
            kill_grace: Duration::from_secs(2),
            max_concurrency: 16,
            queue: 64,
            queue_timeout: Duration::from_secs(5),
            max_request_body: Some(16 << 20),
            max_response_body: None,
        }
    }
}
