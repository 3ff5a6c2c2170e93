//! How a handler is put together.

use std::sync::Arc;

use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Layer;

use super::access_log::AccessLogLayer;
use super::client::{ClientLayer, Proxies, ProxyHeaders};
use super::dispatch::{Dispatch, Endpoint, Routes, Target};
use super::request_id::RequestIdLayer;
use super::route::{Route, RouteKind};
use super::router::Router;
use super::scripts::Scripts;
use super::{Handler, Site};
use crate::engine::Engine;
use crate::gateway::Gateway;

/// Makes a [`Handler`].
#[derive(Debug)]
pub struct HandlerBuilder {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) routes: Vec<Route>,
    pub(super) proxies: Proxies,
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

    /// Who is believed where it tells of a client: a proxy in front. Nobody, unless said.
    #[must_use]
    pub fn trusted_proxies(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.proxies.networks.extend(networks);
        self
    }

    /// By which headers such proxies tell it. The other kind is dropped from what they pass on.
    #[must_use]
    pub fn proxy_headers(mut self, headers: ProxyHeaders) -> Self {
        self.proxies.headers = headers;
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
        let Self { engine, routes, proxies, mount } = self;
        let mount: Arc<str> = mount.into();
        let (exchanges, interrupted) = (TaskTracker::new(), CancellationToken::new());
        let graces = routes.iter().filter_map(|route| Some(route.program()?.limits.kill_grace));
        let patience = graces.max().unwrap_or_default();
        let target = |route: Route| {
            let name = route.name();
            let gateway = |program| {
                Gateway::new(
                    engine.clone(),
                    program,
                    name.clone(),
                    &route.path,
                    mount.clone(),
                    exchanges.clone(),
                    interrupted.clone(),
                )
            };
            let endpoint = match route.kind {
                RouteKind::Program(program) => Endpoint::Program(gateway(program)),
                RouteKind::Scripts(scripts) => {
                    let gateway = gateway(scripts.program.clone());
                    Endpoint::Scripts(Scripts::new(gateway, scripts, format!("{mount}{}", route.path)))
                }
            };
            (route.host, route.path, Target { name, endpoint })
        };
        let router = Router::new(routes.into_iter().map(target));
        let routes = Arc::new(Routes { router, mount: mount.clone() });
        let proxies = Arc::new(proxies);
        let stack = ClientLayer(proxies.clone()).layer(Dispatch(routes.clone()));
        let stack = RequestIdLayer.layer(AccessLogLayer.layer(stack));
        Handler { stack, site: Arc::new(Site { engine, routes, proxies, exchanges, interrupted, patience }) }
    }
}
