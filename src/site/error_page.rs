//! A route's own pages in place of dcgi's: what is asked for in a request's stead, and what of the failure stays.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONNECTION, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, RETRY_AFTER, SET_COOKIE, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, request};

use super::redirect;
use crate::gateway::{Body, Failure, Told};

/// What a client is told of a failure whatever page it gets.
const TOLD: [http::HeaderName; 4] = [ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE];

/// A request that has failed, and whose route has a page for that.
#[derive(Debug)]
pub(super) struct Failing {
    status: StatusCode,
    headers: HeaderMap,
    /// What every answer of the route has that failed.
    of_route: HeaderMap,
    /// dcgi's own page, where that one fails too.
    page: Response<Body>,
}

/// A response with what every answer of a route has: in place of its own of that name, but for what adds up.
pub(super) fn headed(mut response: Response<Body>, headers: &HeaderMap) -> Response<Body> {
    for (name, value) in headers {
        match name == VARY || name == SET_COOKIE {
            true => _ = response.headers_mut().append(name, value.clone()),
            false => _ = response.headers_mut().insert(name, value.clone()),
        }
    }
    response
}

impl Failing {
    /// Turns a request into the GET for a route's page. `page` is dcgi's own.
    ///
    /// Breaks with dcgi's own page, where there is none, or it is no path here.
    pub(super) fn begin(
        pages: &BTreeMap<u16, String>,
        of_route: &HeaderMap,
        head: &mut request::Parts,
        mount: &str,
        page: Response<Body>,
    ) -> ControlFlow<Response<Body>, Self> {
        let Some(path) = pages.get(&page.status().as_u16()) else { return ControlFlow::Break(page) };
        // As Apache tells them (its custom error responses): what was asked for, and how it went.
        let asked = Told(vec![
            ("REDIRECT_STATUS", page.status().as_u16().to_string()),
            ("REDIRECT_URL", head.uri.path().to_owned()),
            ("REDIRECT_QUERY_STRING", head.uri.query().unwrap_or_default().to_owned()),
            ("REDIRECT_REQUEST_METHOD", head.method.to_string()),
        ]);
        let head_only = head.method == Method::HEAD;
        if redirect::redirected(head, mount, &format!("{mount}{path}")).is_err() {
            return ControlFlow::Break(page);
        }
        if head_only {
            head.method = Method::HEAD;
        }
        // They are about what was asked for first.
        for name in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
            head.headers.remove(name);
        }
        head.extensions.insert(asked);
        let told = |name| page.headers().get(&name).cloned().map(|value| (name, value));
        ControlFlow::Continue(Self {
            status: page.status(),
            headers: TOLD.into_iter().filter_map(told).collect(),
            of_route: of_route.clone(),
            page,
        })
    }

    /// Whether its answer is to have these of its route.
    pub(super) fn has_headers(&self, headers: &HeaderMap) -> bool {
        self.of_route == *headers
    }

    /// The answer, by what came of asking for the page. A program may say another status; none of its own is the failure's.
    pub(super) fn end(self, answer: Result<Response<Body>, Failure>) -> Response<Body> {
        let mut response = match answer {
            Ok(response) => response,
            Err(failure) => {
                failure.log("the route's own page for a failure is left out");
                return headed(self.page, &self.of_route);
            }
        };
        if response.status() == StatusCode::OK {
            *response.status_mut() = self.status;
        }
        for name in [ETAG, LAST_MODIFIED, ACCEPT_RANGES] {
            response.headers_mut().remove(name);
        }
        response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response.headers_mut().extend(self.headers);
        headed(response, &self.of_route)
    }
}
