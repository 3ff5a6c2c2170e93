//! Programs' text, compressed for who takes that: by tower-http.

use std::convert::Infallible;
use std::future::ready;

use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use tower::{ServiceExt, service_fn};
use tower_http::compression::Compression;
use tower_http::compression::predicate::{Predicate, SizeAbove};

use crate::gateway::Body;

/// What is smaller grows by it, or nearly.
const LEAST: u64 = 256;

/// What an answer is compressed for: how its client says what it takes.
#[derive(Debug)]
pub(super) struct Taken(HeaderMap);

impl Taken {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let taken = headers.get_all(ACCEPT_ENCODING).iter().map(|value| (ACCEPT_ENCODING, value.clone()));
        Self(taken.collect())
    }

    /// Compresses a program's answer, where it is text that is not compressed yet, and its client takes that.
    pub(super) async fn compressed(self, response: Response<Body>) -> Response<Body> {
        let mut request = Request::new(());
        *request.headers_mut() = self.0;
        let mut response = Some(response);
        let at_hand =
            service_fn(move |_: Request<()>| ready(Ok::<_, Infallible>(response.take().unwrap_or_default())));
        let compression = Compression::new(at_hand).gzip(true).compress_when(
            SizeAbove::new(LEAST)
                .and(|_, _: Version, headers: &HeaderMap, _: &http::Extensions| is_text(headers)),
        );
        let Ok(mut compressed) = compression.oneshot(request).await;
        if compressed.headers().contains_key(http::header::CONTENT_ENCODING)
            && let Some(weak) = compressed.headers().get(ETAG).and_then(weakened)
        {
            compressed.headers_mut().insert(ETAG, weak);
        }
        compressed.map(Body::compressed)
    }
}

/// A validator of what is the same, and no longer byte by byte (RFC 9110 §8.8.1).
fn weakened(etag: &HeaderValue) -> Option<HeaderValue> {
    let strong = etag.as_bytes().starts_with(b"\"").then_some(etag.as_bytes())?;
    HeaderValue::from_bytes(&[b"W/", strong].concat()).ok()
}

/// Whether an answer is text, and no stream of events, which would be held back.
fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_text = kind.starts_with("text/")
        || kind.ends_with("+xml")
        || kind.ends_with("+json")
        || ["application/json", "application/javascript", "application/xml"].contains(&&*kind);
    is_text && kind != "text/event-stream"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text_and_events_are_not() {
        for (kind, text) in [
            ("text/html; charset=utf-8", true),
            ("Text/Plain", true),
            ("application/json", true),
            ("image/svg+xml", true),
            ("text/event-stream", false),
            ("image/png", false),
            ("application/zip", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_text(&headers), text, "{kind}");
        }
        assert!(!is_text(&HeaderMap::new()));
    }
}
