//! The variables by which a program is told what its request is.
//!
//! A leaf: whoever gives a program variables of its own has to know them, so that those are never taken for a request's.

/// The variables that say what a request is. Whoever else sets one makes it up, and is believed wherever a request leaves it
/// unset: a `CONTENT_LENGTH` without a body has a program wait for what never comes.
///
/// `AUTH_TYPE`, `REMOTE_USER`, `HTTPS` and the `HTTP_*` are none of them: a configuration may have its reasons to say those
/// for requests that do not. Nor are `DOCUMENT_ROOT` and `REDIRECT_STATUS`, which are the server's.
pub(crate) const OF_REQUEST: [&str; 21] = [
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "GATEWAY_INTERFACE",
    "PATH_INFO",
    "PATH_TRANSLATED",
    "QUERY_STRING",
    "REMOTE_ADDR",
    "REMOTE_HOST",
    "REMOTE_PORT",
    "REQUEST_ID",
    "REQUEST_METHOD",
    "REQUEST_SCHEME",
    "REQUEST_URI",
    "SCRIPT_FILENAME",
    "SCRIPT_NAME",
    "SERVER_ADDR",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
    "UNIQUE_ID",
];

/// Whether a variable says what a request is, so that nobody but [`meta_variables`](crate::cgi::meta_variables) may set it.
pub fn is_request_variable(name: &str) -> bool {
    OF_REQUEST.contains(&name)
}
