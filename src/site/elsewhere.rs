//! Another place: what a client is told to ask for instead.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode};
use percent_encoding::percent_encode;
use tower::Service;

use super::directory::PATH;
use super::route::RedirectRoute;
use crate::gateway::{Asked, Body, Failed, Failure, Reply};

/// Sends clients on: a [`tower::Service`].
#[derive(Clone, Debug)]
pub(super) struct Elsewhere {
    to: Arc<str>,
    status: StatusCode,
}

impl Elsewhere {
    pub(super) fn new(route: &RedirectRoute) -> Self {
        // What is no status is not configured.
        let status = StatusCode::from_u16(route.status).unwrap_or(StatusCode::FOUND);
        Self { to: route.to.as_str().into(), status }
    }

    /// Where a request is to go.
    pub(super) fn location(&self, host: &str, path: &[u8], query: Option<&str>) -> String {
        // Not two slashes in a row, which would name another host.
        let first = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
        let path = percent_encode(&path[first..], PATH).to_string();
        let mut to = self.to.replace("{host}", host).replace("{path}", &path);
        // A fragment comes last, and may have a question mark of its own.
        let end = to.find('#').unwrap_or(to.len());
        if let Some(query) = query.filter(|_| !to[..end].contains('?')) {
            to.insert_str(end, &format!("?{query}"));
        }
        to
    }
}

impl Service<Asked> for Elsewhere {
    type Response = Reply;
    type Error = Failed;
    type Future = Ready<Result<Reply, Failed>>;

    /// Always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, asked: Asked) -> Self::Future {
        let location = self.location(&asked.client.host, &asked.path_info, asked.head.uri.query());
        let Ok(location) = HeaderValue::try_from(location) else {
            return ready(Err(Failure::Malformed("it cannot be sent on: its query is none").into()));
        };
        let mut response = Response::new(Body::default());
        *response.status_mut() = self.status;
        response.headers_mut().insert(LOCATION, location);
        ready(Ok(Reply::Response(response)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_go_along() {
        for (to, path, query, location) in [
            ("https://new/{path}", "/a b/c%", Some("x=y"), "https://new/a%20b/c%25?x=y"),
            ("https://new/{path}", "", None, "https://new/"),
            ("https://new/", "/a", None, "https://new/"),
            ("https://new/?from={path}", "/a", Some("x"), "https://new/?from=a"),
            ("https://new/{path}#end", "/a", Some("x"), "https://new/a?x#end"),
            ("https://new/#/view?y", "/a", Some("x"), "https://new/?x#/view?y"),
            ("https://{host}/x/{path}", "/a", None, "https://h/x/a"),
            // Nobody is sent to another host by what a client has written.
            ("/{path}", "//evil.example/x", None, "/evil.example/x"),
            ("/{path}", "/\\evil.example", None, "/%5Cevil.example"),
            ("/{path}", "/\r\nSet-Cookie: x", None, "/%0D%0ASet-Cookie:%20x"),
        ] {
            let elsewhere = Elsewhere::new(&RedirectRoute { to: to.into(), status: 301 });
            assert_eq!(elsewhere.location("h", path.as_bytes(), query), location, "{to} {path}");
        }
    }
}
