//! How a handler is put together.

use std::sync::Arc;

use ipnet::IpNet;
use tokio_util::task::TaskTracker;

use super::admission::Gate;
use super::{Handler, Inner, Target};
use crate::engine::Engine;
use crate::route::Route;
use crate::router::Router;

/// Makes a [`Handler`].
#[derive(Debug)]
pub struct HandlerBuilder {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) routes: Vec<Route>,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) mount: String,
}

impl HandlerBuilder {
    /// Adds a route. Of two for the same host and path the first one counts.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Adds routes.
    #[must_use]
    pub fn routes(mut self, routes: impl IntoIterator<Item = Route>) -> Self {
        self.routes.extend(routes);
        self
    }

    /// Whose `Forwarded` and `X-Forwarded-*` headers are believed. Nobody's, unless said.
    #[must_use]
    pub fn trusted_proxies(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.trusted_proxies.extend(networks);
        self
    }

    /// The path, such as `/apps`, that a router above strips before requests come here. Programs see it again at
    /// the front of `SCRIPT_NAME` and `REQUEST_URI`, and local redirects begin with it.
    #[must_use]
    pub fn mounted_at(mut self, path: &str) -> Self {
        self.mount = path.trim_end_matches('/').to_owned();
        self
    }

    /// The handler.
    pub fn build(self) -> Handler {
        let target = |route: Route| {
            let (host, path, name) = (route.host.clone(), route.path.clone(), route.name());
            let gate = Gate::new(&route.limits);
            (host, path, Target { route: Arc::new(route), name, gate })
        };
        let inner = Inner {
            engine: self.engine,
            router: Router::new(self.routes.into_iter().map(target)),
            trusted_proxies: self.trusted_proxies,
            mount: self.mount,
            exchanges: TaskTracker::new(),
        };
        Handler { inner: Arc::new(inner) }
    }
}
