//! A URL, or just its path, as a request for this machine.

use anyhow::{Context, bail};
use http::header::HOST;
use http::{Request, Uri, request};

/// The head's beginnings of a request for a URL such as `/x?y` or `http://example.org/x?y`.
pub(super) fn request(url: &str) -> anyhow::Result<request::Builder> {
    let uri: Uri = url.parse().with_context(|| format!("`{url}` is no URL"))?;
    let Some(path) = uri.path_and_query().filter(|path| path.as_str().starts_with('/')) else {
        bail!("`{url}` is no URL: expected a path such as /hello, or http://host/path");
    };
    let host = uri.authority().map_or("localhost", |authority| authority.as_str());
    Ok(Request::builder().uri(path.as_str()).header(HOST, host))
}
