//! `dcgi serve`, and what `dcgi run` and `dcgi demo` share with it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use dcgi::Handler;
use dcgi::config::{Config, EngineChoice, Listen, ServerLimits};
use dcgi::engine::Engine;
use dcgi::gateway::ProgramRoute;
use dcgi::server::Server;
use dcgi::site::{ProxyHeaders, Route};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;

use super::engine::Use;
use super::{ConfigFile, engine, signals};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    grace: Grace,
}

/// How long a shutdown waits.
#[derive(Debug, Args)]
pub(super) struct Grace {
    /// How long requests that run may go on after SIGTERM or SIGINT
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    grace: Duration,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    serve(options.file.load()?, options.grace).await
}

/// What is served, and where it runs.
pub(super) struct Site {
    pub(super) config: Config,
    pub(super) engine: Arc<dyn Engine>,
    /// A line for whoever started it, below the URLs.
    pub(super) hint: Option<&'static str>,
}

/// Serves a configuration until a signal ends it.
pub(super) async fn serve(config: Config, grace: Grace) -> anyhow::Result<ExitCode> {
    let site = async {
        let engine = engine::connect(&config, Use::Server).await?;
        Ok(Site { config, engine, hint: None })
    };
    serve_site(site, grace).await
}

/// Serves one route and nothing else until a signal ends it.
pub(super) async fn serve_alone(
    listen: Listen,
    engine: EngineChoice,
    route: Route,
    grace: Grace,
) -> anyhow::Result<ExitCode> {
    let config = Config {
        listen: vec![listen],
        engine,
        trusted_proxies: Vec::new(),
        proxy_headers: ProxyHeaders::default(),
        server: ServerLimits::default(),
        routes: vec![route],
    };
    serve(config, grace).await
}

/// Serves a site, once it is ready, until a signal ends it.
pub(super) async fn serve_site(
    ready: impl Future<Output = anyhow::Result<Site>>,
    grace: Grace,
) -> anyhow::Result<ExitCode> {
    allow_many_files();
    // Before anything can run that a signal would leave behind.
    let mut shutdown = std::pin::pin!(signals::shutdown()?);
    let Site { config, engine, hint } = tokio::select! {
        site = ready => site?,
        // An engine that accepts and does not answer must not hold up the end.
        () = &mut shutdown => return Ok(ExitCode::SUCCESS),
    };
    // Containers may take as long as they like; sockets are looked at first, for an error to show at once.
    let server = Server::bind(&config.listen, config.server).await?;
    let urls = server.urls();
    if urls.is_empty() {
        bail!("nothing to listen on: `listen` is empty, and systemd has passed on no socket");
    }
    tokio::spawn(prepare(engine.clone(), config.routes.clone()));
    let handler = Handler::builder(engine)
        .routes(config.routes)
        .trusted_proxies(config.trusted_proxies)
        .proxy_headers(config.proxy_headers)
        .build();
    for url in urls {
        println!("dcgi listens on {url}");
    }
    if let Some(hint) = hint {
        println!("{hint}");
    }
    _ = sd_notify::notify(&[NotifyState::Ready]);
    server.serve(handler, grace.grace, shutdown).await;
    Ok(ExitCode::SUCCESS)
}

/// Takes as many descriptors as the system allows: the usual 1024 are for programs that use select(2). Each request
/// has some, and as an ordinary user programs must reach their end before dcgi does.
fn allow_many_files() {
    let allowed = getrlimit(Resource::Nofile).maximum;
    // Where it cannot be, what there is has to do.
    _ = setrlimit(Resource::Nofile, Rlimit { current: allowed, maximum: allowed });
}

/// Has the engine make ready what every route needs, images pulled where they are missing, so that the first request
/// need not wait for that. What fails here is not the end: the image may come, and each request tries again.
async fn prepare(engine: Arc<dyn Engine>, routes: Vec<Route>) {
    for route in routes {
        let Some(ProgramRoute { program, .. }) = route.program() else { continue };
        let choice = engine.choice(program).await;
        tracing::info!(route = &*route.name(), "its requests go to {choice}");
        if let Err(error) = engine.prepare(program, &route.name()).await {
            let error = super::describe(&error.into());
            tracing::error!(route = &*route.name(), "the route cannot be served now: {error}");
        }
    }
}
