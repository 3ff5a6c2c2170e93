//! What the engine's refusals mean.

use bollard::errors::Error;

use super::Endpoint;
use crate::engine::{EngineError, EngineErrorKind};

/// What was being done, for the error that it did not work.
pub(super) struct ErrorContext<'a> {
    pub(super) what: String,
    pub(super) endpoint: &'a Endpoint,
}

impl ErrorContext<'_> {
    pub(super) fn error(self, error: Error) -> EngineError {
        if kind(&error) == EngineErrorKind::Unreachable {
            return self.unreachable(&error);
        }
        self::error(error, self.what)
    }

    pub(super) fn unreachable(self, error: &Error) -> EngineError {
        let what = format!("{}: the container engine at {} does not answer", self.what, self.endpoint);
        EngineError::new(EngineErrorKind::Unreachable, what).because(root_cause(error))
    }
}

/// Gives a failed call its kind, and its reason in the engine's own words.
pub(super) fn error(error: Error, what: impl Into<String>) -> EngineError {
    let what = what.into();
    let kind = kind(&error);
    match error {
        // The engine's message is written for people; the wrapper around it is not.
        Error::DockerResponseServerError { message, .. } => {
            EngineError::new(kind, format!("{what}: {}", message.trim()))
        }
        other => EngineError::new(kind, what).because(root_cause(&other)),
    }
}

/// What lies at the bottom: the layers of clients above it say nothing to an operator.
pub(in crate::engine) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => root_cause(source),
        None => error.to_string(),
    }
}

fn kind(error: &Error) -> EngineErrorKind {
    match error {
        Error::DockerResponseServerError { status_code: 404, message }
            if message.to_ascii_lowercase().contains("no such image") =>
        {
            EngineErrorKind::ImageMissing
        }
        Error::DockerResponseServerError { status_code: 503, .. } => EngineErrorKind::Unreachable,
        Error::DockerResponseServerError { .. }
        | Error::DockerStreamError { .. }
        | Error::DockerContainerWaitError { .. }
        | Error::JsonDataError { .. }
        | Error::JsonSerdeError { .. } => EngineErrorKind::Refused,
        _ => EngineErrorKind::Unreachable,
    }
}

/// Whether the engine answered with a status.
pub(super) fn has_status(error: &Error, status: u16) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code, .. } if *status_code == status)
}

/// Whether the engine answered, and blamed itself.
pub(super) fn is_server_failure(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 500.., .. })
}

/// Whether a call may or may not have taken effect: it was sent, and no answer came.
pub(super) fn is_outcome_unknown(error: &Error) -> bool {
    match error {
        Error::DockerResponseServerError { .. } => false,
        Error::HyperLegacyError { err } => !err.is_connect(),
        _ => true,
    }
}
