//! The engine that a configuration chooses.

use std::sync::Arc;

use anyhow::bail;
use dcgi::agent::Executable;
use dcgi::config::{Config, EngineChoice};
use dcgi::engine::auto::AutoEngine;
use dcgi::engine::docker::{DockerEngine, Endpoint};
use dcgi::engine::embedded::EmbeddedEngine;
use dcgi::engine::{Engine, EngineError, EngineErrorKind, Invocation, Process, Program};
use dcgi::gateway::ProgramRoute;
use dcgi::images::{ImageConfig, Store};
use dcgi::site::Route;
use futures_util::future::BoxFuture;

/// The routes that run a program.
pub(super) fn served(routes: &[Route]) -> impl Iterator<Item = (&Route, &ProgramRoute)> {
    routes.iter().filter_map(|route| route.program().map(|program| (route, program)))
}

/// Whether the engines that routes name have what those ask for.
pub(super) fn suit(routes: &[Route]) -> anyhow::Result<()> {
    let unsuited = served(routes).filter_map(|(route, ProgramRoute { program, .. })| {
        let why = match (program.needs_embedded(), program.needs_docker(), program.engine) {
            (Some(why), _, EngineChoice::Docker) => {
                format!("{why}, and its engine is \"docker\"; use engine = \"embedded\"")
            }
            (Some(why), Some(_), _) => format!("{why}, which has no network `{}`", program.network.as_str()),
            (_, Some(why), EngineChoice::Embedded) => why,
            _ => return None,
        };
        Some(format!("route `{}`: {why}", route.name()))
    });
    let unsuited: Vec<_> = unsuited.collect();
    if !unsuited.is_empty() {
        bail!(unsuited.join("\n"));
    }
    Ok(())
}

/// The engine of a site that runs nothing.
#[derive(Debug)]
struct Idle;

impl Idle {
    fn refused<T: Send>() -> BoxFuture<'static, Result<T, EngineError>> {
        Box::pin(async {
            Err(EngineError::new(EngineErrorKind::Refused, "no route of this site runs a program"))
        })
    }
}

impl Engine for Idle {
    fn name(&self) -> &'static str {
        "none"
    }

    fn image<'a>(&'a self, _: &'a Program) -> BoxFuture<'a, Result<ImageConfig, EngineError>> {
        Self::refused()
    }

    fn start<'a>(&'a self, _: &'a Program, _: Invocation) -> BoxFuture<'a, Result<Process, EngineError>> {
        Self::refused()
    }

    fn describe(&self, _: &Program, _: &Invocation) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn drained(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// One engine for everything.
pub(super) enum Single {
    Docker(DockerEngine),
    Embedded(EmbeddedEngine),
}

impl Single {
    /// The engine, whatever kind it is.
    pub(super) fn into_shared(self) -> Arc<dyn Engine> {
        match self {
            Self::Docker(engine) => Arc::new(engine),
            Self::Embedded(engine) => Arc::new(engine),
        }
    }
}

/// What an engine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Many requests: what makes the later ones quicker is worth it.
    Server,
    /// One request, or none.
    Once,
}

/// Connects to the engines that the routes of a configuration may need, or makes them, where they [`suit`].
pub(super) async fn connect(config: &Config, usage: Use) -> anyhow::Result<Arc<dyn Engine>> {
    suit(&config.routes)?;
    if programs(config).next().is_none() {
        return Ok(Arc::new(Idle));
    }
    let wanted = |choice| programs(config).any(|program| program.engine == choice);
    let (auto, docker, by_us) =
        (wanted(EngineChoice::Auto), wanted(EngineChoice::Docker), wanted(EngineChoice::Embedded));
    let by_us = by_us || programs(config).any(|program| program.needs_embedded().is_some());
    let is_clear = !auto && docker != by_us;
    if is_clear {
        let single = if docker { self::docker(true).await? } else { embedded().await? };
        return Ok(single.into_shared());
    }
    let endpoint = Endpoint::from_env()?;
    let is_tried = by_us || endpoint.is_unix();
    let embedded = if is_tried {
        match Store::open(Store::default_root()) {
            Ok(store) => EmbeddedEngine::new(store).await,
            Err(error) => Err(EngineError::from(error)),
        }
    } else {
        let what = "no route needs the embedded engine where the Docker Engine is elsewhere";
        Err(EngineError::new(EngineErrorKind::Refused, what))
    };
    if by_us && let Err(error) = embedded {
        let needs = |program: &Program| {
            program.engine == EngineChoice::Embedded || program.needs_embedded().is_some()
        };
        let route = served(&config.routes).find(|(_, served)| needs(&served.program));
        let route = route.map_or_else(String::new, |(route, _)| format!("route `{}`: ", route.name()));
        return Err(
            anyhow::Error::new(error).context(format!("{route}the embedded engine cannot be had here"))
        );
    }
    let engine = AutoEngine::builder(embedded, endpoint)
        .agent(Executable::current())
        .take_over(usage == Use::Server)
        .connect()
        .await
        .map_err(|error| away(error, !is_tried))?;
    Ok(Arc::new(engine))
}

/// The one engine that suits what has nothing special about it, and whose image can be put anywhere.
pub(super) async fn single(choice: EngineChoice) -> anyhow::Result<Single> {
    match choice {
        EngineChoice::Docker => docker(true).await,
        EngineChoice::Embedded => embedded().await,
        EngineChoice::Auto if !Endpoint::from_env()?.is_unix() => docker(true).await,
        EngineChoice::Auto => match embedded().await {
            Ok(embedded) => Ok(embedded),
            Err(refused) => {
                tracing::info!("containers are Docker's: {}", super::describe(&refused));
                // Where neither can be had, that one is easier to come by.
                docker(false).await.map_err(|error| error.context(super::describe(&refused)))
            }
        },
    }
}

/// What the routes of a configuration run.
pub(super) fn programs(config: &Config) -> impl Iterator<Item = &Program> {
    served(&config.routes).map(|(_, route)| &route.program)
}

/// An engine that is not there, with what to do. `is_alone`: the embedded one has not been tried.
fn away(error: EngineError, is_alone: bool) -> anyhow::Error {
    if !error.is_unreachable() {
        return error.into();
    }
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let hint = if is_set("DOCKER_HOST") {
        "`DOCKER_HOST` names it: start that engine, or unset the variable"
    } else if is_set("DOCKER_CONTEXT") {
        "`DOCKER_CONTEXT` names it: start that engine, or unset the variable"
    } else if is_alone {
        "start it, set `DOCKER_HOST` to where one is, or do without by engine = \"embedded\""
    } else {
        "start it, or set `DOCKER_HOST` to where one is"
    };
    anyhow::anyhow!("{}; {hint}", super::describe(&error.into()))
}

async fn docker(is_alone: bool) -> anyhow::Result<Single> {
    let engine = DockerEngine::connect_with_env().await.map_err(|error| away(error, is_alone))?;
    Ok(Single::Docker(engine.with_agent(Executable::current())))
}

async fn embedded() -> anyhow::Result<Single> {
    let store = Store::open(Store::default_root())?;
    let engine = EmbeddedEngine::new(store).await?;
    Ok(Single::Embedded(engine.with_agent(Executable::current())))
}
