//! The Docker Engine that the environment names, as far as a choice between engines needs it: whether it answers, what it
//! has, and the engine proper where a program is to run on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use tokio::sync::{Notify, OnceCell};

use super::choice::{InDocker, Keeper, Voice};
use crate::agent::Executable;
use crate::engine::docker::{self, DockerEngine, Endpoint};
use crate::engine::{EngineError, EngineErrorKind};
use crate::reason::Reason;

/// How long it may take to say that it is there, or what it has. Later counts as no answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The Docker Engine beside the embedded one. It may not be there, and come and go.
#[derive(Debug)]
pub(super) struct Daemon {
    endpoint: Endpoint,
    /// For questions. Connects at each.
    client: Docker,
    /// What runs in its containers that wait.
    executable: Option<Executable>,
    /// Made once it has answered.
    engine: OnceCell<DockerEngine>,
    /// Why it does not answer. Absent where it does.
    silence: Mutex<Option<Arc<str>>>,
    /// Somebody had no answer, and wants it asked.
    doubted: Arc<Notify>,
}

impl Daemon {
    /// Asks nobody yet.
    pub(super) fn new(endpoint: Endpoint, executable: Option<Executable>) -> Result<Self, EngineError> {
        Ok(Self {
            client: docker::client(&endpoint)?,
            endpoint,
            executable,
            engine: OnceCell::new(),
            silence: Mutex::new(Some("it was not asked yet".into())),
            doubted: Arc::default(),
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn client(&self) -> &Docker {
        &self.client
    }

    /// In words, what names it, where it is not on this machine.
    pub(super) fn elsewhere(&self) -> Option<Arc<str>> {
        if self.endpoint.is_unix() {
            return None;
        }
        let by_variable = std::env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty());
        let what = if by_variable { "DOCKER_HOST" } else { "the Docker context" };
        Some(format!("{what} names {}", self.endpoint).into())
    }

    /// Why it does not answer. Absent where it does, as far as is known.
    pub(super) fn silence(&self) -> Option<Arc<str>> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn answers(&self) -> bool {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// The same, and where it does not, whether it is to be there.
    pub(super) fn voice(&self) -> Voice {
        match self.answers() {
            true => Voice::Answers,
            false if self.endpoint.is_to_be_there() => Voice::Silent,
            false => Voice::Absent,
        }
    }

    /// Has it asked soon whether it is there.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Told when somebody doubts that it is there.
    pub(super) fn doubted(&self) -> Arc<Notify> {
        self.doubted.clone()
    }

    /// Whether it is there.
    pub(super) async fn ping(&self) -> bool {
        self.ask(self.client.ping()).await.is_some()
    }

    /// What a name means to it. Absent where it does not answer.
    pub(super) async fn look_up(&self, image: &str) -> Option<InDocker> {
        match self.ask(self.client.inspect_image(image)).await? {
            Ok(found) => Some(found.id.map_or(InDocker::Missing, InDocker::Has)),
            Err(Error::DockerResponseServerError { status_code: 400..500, .. }) => Some(InDocker::Missing),
            // It is there, and has trouble: what it said before holds.
            Err(error) => {
                tracing::debug!(image, "looking up an image in the Docker Engine: {}", Reason(&error));
                None
            }
        }
    }

    /// Whether it has a volume of this name, which the store has not. Asked again first where it has not answered of late.
    pub(super) async fn keeper_of(&self, name: &str) -> Keeper {
        if !self.answers() && (self.voice() == Voice::Absent || !self.ping().await) {
            return match self.voice() {
                Voice::Absent => Keeper::Nobody,
                Voice::Answers | Voice::Silent => Keeper::Unknown,
            };
        }
        match self.ask(self.client.inspect_volume(name)).await {
            Some(Ok(_)) => Keeper::Docker,
            Some(Err(Error::DockerResponseServerError { status_code: 404, .. })) => Keeper::Nobody,
            _ => Keeper::Unknown,
        }
    }

    /// The answer to a question, which may be a refusal. Absent where there is none, which is remembered.
    async fn ask<T>(&self, question: impl Future<Output = Result<T, Error>>) -> Option<Result<T, Error>> {
        match tokio::time::timeout(ANSWERS_WITHIN, question).await {
            Ok(answer @ (Ok(_) | Err(Error::DockerResponseServerError { .. }))) => {
                self.heard(None);
                Some(answer)
            }
            Ok(Err(error)) => {
                self.heard(Some(docker::root_cause(&error).into()));
                None
            }
            Err(_) => {
                self.heard(Some(format!("no answer within {ANSWERS_WITHIN:?}").into()));
                None
            }
        }
    }

    fn heard(&self, silence: Option<Arc<str>>) {
        let mut before = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*before, &silence) {
            (None, Some(why)) => {
                tracing::warn!("the Docker Engine at {} does not answer: {why}", self.endpoint);
            }
            (Some(_), None) => tracing::debug!("the Docker Engine at {} answers", self.endpoint),
            _ => {}
        }
        *before = silence;
    }

    /// The engine, connected to where that has not been done. While it does not answer it is asked first, so that nobody waits
    /// long for one that hangs.
    pub(super) async fn engine(&self) -> Result<&DockerEngine, EngineError> {
        match self.engine.get() {
            // One that is far away may be slow, and nothing is run here in its stead.
            Some(engine) if self.answers() || self.elsewhere().is_some() => Ok(engine),
            _ if !self.ping().await => Err(self.unreachable()),
            Some(engine) => Ok(engine),
            None => self.connect().await,
        }
    }

    /// That it does not answer, as an error.
    pub(super) fn unreachable(&self) -> EngineError {
        let what = format!("no Docker Engine answers at {}", self.endpoint);
        let why = self.silence().unwrap_or_else(|| "it has just gone".into());
        EngineError::new(EngineErrorKind::Unreachable, what).because(why.to_string())
    }

    /// The same without asking first.
    pub(super) async fn connect(&self) -> Result<&DockerEngine, EngineError> {
        let connecting = || async {
            let engine = DockerEngine::connect(self.endpoint.clone()).await?;
            Ok::<_, EngineError>(match &self.executable {
                Some(executable) => engine.with_agent(executable.clone()),
                None => engine,
            })
        };
        let engine = self.engine.get_or_try_init(connecting).await?;
        self.heard(None);
        Ok(engine)
    }

    /// The engine, where it is connected to.
    pub(super) fn connected(&self) -> Option<&DockerEngine> {
        self.engine.get()
    }
}
