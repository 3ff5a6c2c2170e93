//! Request head → meta-variables (RFC 3875 §4.1).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Uri, Version, request};

use super::MetaVariables;
use super::hop_by_hop::{connection_options, is_hop_by_hop};

/// All that a program is told and the request head does not say.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The route's path prefix, with the script's name in a script directory: `SCRIPT_NAME`. Empty for the
    /// route `/`.
    pub script_name: &'a str,
    /// The rest of the path behind the script name, decoded: `PATH_INFO`, unset when empty.
    pub path_info: &'a [u8],
    /// The program's file inside the container: `SCRIPT_FILENAME`.
    pub script_filename: Option<&'a str>,
    /// `DOCUMENT_ROOT`; with a path info behind it also `PATH_TRANSLATED`.
    pub document_root: Option<&'a str>,
    /// The host that the client asked for, as [`split_host`](super::split_host) gives it: `SERVER_NAME`.
    pub server_name: &'a str,
    /// The port that the client asked for: `SERVER_PORT`.
    pub server_port: u16,
    /// The address that the connection came in at, where it has one: `SERVER_ADDR`.
    pub server_addr: Option<IpAddr>,
    /// The client: `REMOTE_ADDR`, `REMOTE_HOST` and, unless it is 0, `REMOTE_PORT`. Absent on a unix socket that no
    /// trusted proxy speaks for.
    pub remote: Option<SocketAddr>,
    /// Whether the client's connection is encrypted: `HTTPS` and `REQUEST_SCHEME`.
    pub https: bool,
    /// The request's id, as the log has it: `REQUEST_ID` and `UNIQUE_ID`.
    pub request_id: &'a str,
    /// The user that dcgi itself authenticated, never one that the client merely names: `AUTH_TYPE` and
    /// `REMOTE_USER`.
    pub user: Option<&'a AuthenticatedUser>,
    /// How many bytes stdin is going to give, when and only when there is a body and its length is known:
    /// `CONTENT_LENGTH`. What the client's own header says is not looked at.
    pub content_length: Option<u64>,
    /// Which of the request's headers pass.
    pub headers: HeaderPolicy<'a>,
}

/// A user that dcgi authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticatedUser {
    /// The scheme, `Basic` for example: `AUTH_TYPE`.
    pub auth_type: String,
    /// Who it is: `REMOTE_USER`.
    pub name: String,
}

/// What a route says about request headers that do not pass by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderPolicy<'a> {
    /// Whether the program gets `Authorization`, that is, the client's credentials.
    pub pass_authorization: bool,
    /// Header names with other characters than letters, digits and hyphens that pass nonetheless, in any
    /// letter case.
    pub allow: &'a [String],
}

/// `SERVER_SOFTWARE`.
const SERVER_SOFTWARE: &str = concat!("dcgi/", env!("CARGO_PKG_VERSION"));

/// How many variables are computed at most, whatever headers come.
const COMPUTED: usize = 26;

/// The meta-variables of a request.
pub fn meta_variables(head: &request::Parts, context: &Context<'_>) -> MetaVariables {
    let mut variables = MetaVariables::with_capacity(COMPUTED + head.headers.keys_len());
    set_server(&mut variables, context);
    set_request(&mut variables, head, context);
    set_client(&mut variables, context);
    set_headers(&mut variables, head, context.headers);
    variables
}

fn set_server(variables: &mut MetaVariables, context: &Context<'_>) {
    variables.set("GATEWAY_INTERFACE", "CGI/1.1");
    variables.set("SERVER_SOFTWARE", SERVER_SOFTWARE);
    variables.set("SERVER_NAME", context.server_name);
    variables.set("SERVER_PORT", context.server_port.to_string());
    if let Some(address) = context.server_addr {
        variables.set("SERVER_ADDR", address.to_canonical().to_string());
    }
    variables.set("REQUEST_SCHEME", if context.https { "https" } else { "http" });
    if context.https {
        variables.set("HTTPS", "on");
    }
    // php-cgi answers nothing without it (its `cgi.force_redirect`, CERT CA-1996-11).
    variables.set("REDIRECT_STATUS", "200");
    if let Some(root) = context.document_root {
        variables.set("DOCUMENT_ROOT", root);
    }
}

fn set_request(variables: &mut MetaVariables, head: &request::Parts, context: &Context<'_>) {
    variables.set("SERVER_PROTOCOL", protocol(head.version));
    variables.set("REQUEST_METHOD", head.method.as_str());
    variables.set("REQUEST_URI", request_uri(&head.uri));
    variables.set("QUERY_STRING", head.uri.query().unwrap_or_default());
    variables.set("SCRIPT_NAME", context.script_name);
    if let Some(file) = context.script_filename {
        variables.set("SCRIPT_FILENAME", file);
    }
    // Flask and Tcl scripts tell unset from empty, and Apache leaves it unset.
    if !context.path_info.is_empty() {
        variables.set("PATH_INFO", context.path_info);
        if let Some(root) = context.document_root {
            let root = root.trim_end_matches('/').as_bytes();
            variables.set("PATH_TRANSLATED", [root, context.path_info].concat());
        }
    }
    variables.set("REQUEST_ID", context.request_id);
    variables.set("UNIQUE_ID", context.request_id);
    if let Some(length) = context.content_length {
        variables.set("CONTENT_LENGTH", length.to_string());
    }
    if let Some(content_type) = head.headers.get(header::CONTENT_TYPE) {
        variables.set("CONTENT_TYPE", content_type.as_bytes());
    }
}

fn set_client(variables: &mut MetaVariables, context: &Context<'_>) {
    if let Some(remote) = context.remote {
        let address = remote.ip().to_canonical().to_string();
        variables.set("REMOTE_ADDR", &address);
        variables.set("REMOTE_HOST", &address);
        // What a proxy tells of a client has no port, mostly.
        if remote.port() != 0 {
            variables.set("REMOTE_PORT", remote.port().to_string());
        }
    }
    if let Some(user) = context.user {
        variables.set("AUTH_TYPE", &user.auth_type);
        variables.set("REMOTE_USER", &user.name);
    }
}

/// Every header that may pass, as `HTTP_NAME` (RFC 3875 §4.1.18).
fn set_headers(variables: &mut MetaVariables, head: &request::Parts, policy: HeaderPolicy<'_>) {
    if let Some(host) = host(head) {
        variables.set("HTTP_HOST", host);
    }
    let named: Vec<&str> =
        head.headers.get_all(header::CONNECTION).iter().flat_map(connection_options).collect();
    let withheld = |name: &HeaderName| {
        is_withheld(name, policy) || named.iter().any(|named| named.eq_ignore_ascii_case(name.as_str()))
    };

    let mut variable = String::new();
    let mut odd = Vec::new();
    for name in head.headers.keys() {
        if !is_well_formed(name) {
            odd.push(name);
        } else if !withheld(name) {
            write_variable_name(&mut variable, name);
            variables.set(&variable, joined(&head.headers, name));
        }
    }
    // After the well-formed names, so that `X_Forwarded_For` cannot stand where `X-Forwarded-For` does.
    for name in odd {
        let allowed = policy.allow.iter().any(|allowed| allowed.eq_ignore_ascii_case(name.as_str()))
            && !withheld(name)
            && !hyphenated(name).is_some_and(|name| withheld(&name));
        write_variable_name(&mut variable, name);
        if allowed && variables.get(&variable).is_none() {
            variables.set(&variable, joined(&head.headers, name));
        } else {
            tracing::debug!(header = name.as_str(), "withheld: the name could pass for another's");
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// The path and query as they came, also where the request named the whole URI (RFC 9112 §3.2.2).
fn request_uri(uri: &Uri) -> String {
    match uri.query() {
        Some(query) => [uri.path(), "?", query].concat(),
        None => uri.path().to_owned(),
    }
}

/// An authority in the request target, as HTTP/2 has it, overrules the field (RFC 9112 §3.2.2, RFC 9113
/// §8.3.1): routing went by it, and a program must not see another.
fn host(head: &request::Parts) -> Option<&[u8]> {
    match head.uri.authority() {
        Some(authority) => authority.as_str().rsplit('@').next().map(str::as_bytes),
        None => head.headers.get(header::HOST).map(HeaderValue::as_bytes),
    }
}

/// Whether a field never becomes `HTTP_NAME`.
fn is_withheld(name: &HeaderName, policy: HeaderPolicy<'_>) -> bool {
    match name.as_str() {
        // SECURITY: HTTP_PROXY configures the HTTP clients inside the program (httpoxy, CVE-2016-5385).
        "proxy" => true,
        // Variables of their own.
        "content-length" | "content-type" | "host" => true,
        // Answered by the server.
        "expect" => true,
        // RFC 3875 §4.1.18 and §9.2: a program should not need the client's password.
        "authorization" => !policy.pass_authorization,
        _ => is_hop_by_hop(name),
    }
}

/// Whether no other well-formed name gives the same variable. Names are in lower case here.
fn is_well_formed(name: &HeaderName) -> bool {
    name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// `x-forwarded-for` → `HTTP_X_FORWARDED_FOR`.
fn write_variable_name(variable: &mut String, name: &HeaderName) {
    variable.clear();
    variable.push_str("HTTP_");
    for byte in name.as_str().bytes() {
        variable.push(if byte.is_ascii_alphanumeric() { byte.to_ascii_uppercase().into() } else { '_' });
    }
}

/// The well-formed name that gives the same variable as an odd one.
fn hyphenated(name: &HeaderName) -> Option<HeaderName> {
    name.as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "-").parse().ok()
}

/// All values of a field as one: RFC 9110 §5.3, and RFC 9113 §8.2.3 for cookies.
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Cow<'a, [u8]> {
    let separator: &[u8] = if *name == header::COOKIE { b"; " } else { b", " };
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let mut joined = Cow::Borrowed(values.next().unwrap_or_default());
    for value in values {
        let joined = joined.to_mut();
        joined.extend_from_slice(separator);
        joined.extend_from_slice(value);
    }
    joined
}

#[cfg(test)]
mod tests;
