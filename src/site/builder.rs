//! How a handler is put together.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Layer;

use super::access_log::AccessLogLayer;
use super::client::{ClientLayer, Proxies, ProxyHeaders};
use super::directory::Directory;
use super::dispatch::{Dispatch, Endpoint, Routes, Target};
use super::elsewhere::Elsewhere;
use super::guard::Guard;
use super::request_id::RequestIdLayer;
use super::route::{Route, RouteKind};
use super::router::Router;
use super::sendfile::Sender;
use super::{Handler, Site};
use crate::engine::embedded::{EmbeddedEngine, RootUser};
use crate::engine::{Engine, Program};
use crate::files::Reader;
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
                    let program = &scripts.program.program;
                    let reader = match program.rootfs {
                        Some(_) if scripts.sends_files => reader(program),
                        // Who a user of an image is, the image says.
                        _ => by_number(program.user.as_deref()),
                    };
                    let gateway = gateway(scripts.program.clone());
                    let prefix = format!("{mount}{}", route.path);
                    Endpoint::Directory(Directory::of_scripts(
                        gateway,
                        scripts,
                        prefix,
                        reader,
                        interrupted.clone(),
                    ))
                }
                RouteKind::Redirect(redirect) => Endpoint::Redirect(Elsewhere::new(&redirect)),
                RouteKind::Files(files) => {
                    let rootfs = Some(PathBuf::from("/"));
                    let reader = reader(&Program { rootfs, user: files.user.clone(), ..Program::new("") });
                    Endpoint::Directory(Directory::of_files(
                        files,
                        format!("{mount}{}", route.path),
                        reader,
                        interrupted.clone(),
                    ))
                }
            };
            let guard = Guard::new(route.access);
            let Route { host, path, headers, error_pages, compress, sendfile, .. } = route;
            let sender = sendfile.map(|sendfile| Sender::new(sendfile, interrupted.clone()));
            (host, path, Target { name, guard, headers, error_pages, compress, sender, endpoint })
        };
        let router = Router::new(routes.into_iter().map(target));
        let routes = Arc::new(Routes { router, mount: mount.clone() });
        let proxies = Arc::new(proxies);
        let stack = ClientLayer(proxies.clone()).layer(Dispatch(routes.clone()));
        let stack = RequestIdLayer.layer(AccessLogLayer.layer(stack));
        Handler { stack, site: Arc::new(Site { engine, routes, proxies, exchanges, interrupted, patience }) }
    }
}

/// For whom files are sent beside a program in a root directory: the user who is named for it, as that directory knows them.
fn reader(program: &Program) -> Reader {
    if program.user.is_none() {
        return Reader::Others;
    }
    match EmbeddedEngine::look_at_root(program).user {
        Some(RootUser { uid, gid, groups }) => {
            Reader::User { uid, groups: groups.into_iter().chain([gid]).collect() }
        }
        // Nobody is known by that name: they get no more than anybody.
        None => Reader::Others,
    }
}

/// The same for one of whom no more is known than a number: in no group but the one that is named.
fn by_number(user: Option<&str>) -> Reader {
    let (user, group) = user.map_or(("", ""), |user| user.split_once(':').unwrap_or((user, "")));
    match user.parse() {
        Ok(uid) => Reader::User { uid, groups: group.parse().into_iter().collect() },
        Err(_) => Reader::Others,
    }
}
