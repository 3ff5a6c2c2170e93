//! Removing what dead instances left behind.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::{Duration, SystemTime};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as State};
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures_util::StreamExt;

use super::labels;
use super::{Shared, api, container, outliving};
use crate::engine::EngineError;
use crate::instance::{Instance, Liveness};

/// How many removals are asked for at once: each keeps the engine's disk busy.
const AT_ONCE: usize = 8;

/// For how long a stopped container of an instance that cannot be asked is left alone. Between the end of its
/// program and its removal lie milliseconds.
const STOPPED_FOR: Duration = Duration::from_secs(600);

/// Sweeps again and again, for as long as the engine is in use.
pub(super) async fn sweep_regularly(engine: Weak<Shared>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(engine) = engine.upgrade() else { return };
        if let Err(error) = sweep(&engine).await {
            tracing::debug!(%error, "looking for abandoned containers failed");
        }
    }
}

/// Removes every container of an instance that is dead, and every one that has outlived its own deadline
/// where nobody can say; of our own, those that no task sees to any more. Containers of another dcgi that is alive
/// are never touched.
///
/// # Errors
/// Where the engine does not list its containers. A removal that fails is logged and left to the next sweep.
pub(super) async fn sweep(engine: &Shared) -> Result<(), EngineError> {
    let filters = HashMap::from([("label".to_owned(), vec![labels::INSTANCE.to_owned()])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let containers = match engine.docker.list_containers(Some(options)).await {
        Ok(containers) => containers,
        Err(error) => return Err(engine.failure(error, "listing containers").await),
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let abandoned: Vec<_> = containers
        .iter()
        .filter(|container| is_abandoned(&engine.instance, container, now, container::is_tended))
        .filter_map(|container| container.id.as_deref())
        .collect();
    if abandoned.is_empty() {
        return Ok(());
    }
    tracing::info!(count = abandoned.len(), "removing containers of dcgi instances that are gone");
    futures_util::stream::iter(abandoned)
        .for_each_concurrent(AT_ONCE, |id| async move {
            let removed = engine.remove_container(id).await;
            // A program that had itself traced runs on behind its container's end, and nothing else knows of it.
            if engine.endpoint.is_local()
                && removed.as_ref().map_or_else(|error| api::has_status(error, 404), |()| true)
            {
                outliving::kill(id.to_owned()).await;
            }
            match removed {
                // Going: another instance that starts now may be sweeping too.
                Err(error) if !api::has_status(&error, 409) => {
                    tracing::warn!(container = id, %error, "an abandoned container cannot be removed");
                }
                _ => {}
            }
        })
        .await;
    Ok(())
}

fn is_abandoned(
    own: &Instance,
    container: &ContainerSummary,
    now: u64,
    is_tended: impl Fn(&str) -> bool,
) -> bool {
    let Some(labels) = &container.labels else { return false };
    let Some(maker) = labels.get(labels::INSTANCE).and_then(|label| Instance::parse(label)) else {
        return false;
    };
    if maker == *own {
        // One that an engine made after all, long after it was asked: see `container::live`.
        let names = container.names.iter().flatten();
        return !names.map(|name| name.trim_start_matches('/')).any(is_tended);
    }
    match own.liveness_of(&maker) {
        Liveness::Alive => false,
        Liveness::Dead => true,
        Liveness::Unknown => {
            let expired = labels
                .get(labels::EXPIRES)
                .and_then(|expires| expires.parse::<u64>().ok())
                .is_some_and(|expires| expires < now);
            let created = container.created.and_then(|created| u64::try_from(created).ok()).unwrap_or(now);
            let stopped = matches!(container.state, Some(State::CREATED | State::EXITED | State::DEAD));
            expired || (stopped && created + STOPPED_FOR.as_secs() < now)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 2_000_000_000;

    fn container(maker: &Instance, expires: Option<u64>, state: State, age: u64) -> ContainerSummary {
        let mut labels = HashMap::from([(labels::INSTANCE.to_owned(), maker.label())]);
        if let Some(expires) = expires {
            labels.insert(labels::EXPIRES.to_owned(), expires.to_string());
        }
        ContainerSummary {
            labels: Some(labels),
            state: Some(state),
            created: Some((NOW - age) as i64),
            ..Default::default()
        }
    }

    fn elsewhere() -> Instance {
        Instance::parse("0123456789ab.1.2.3").unwrap()
    }

    fn nobody(_: &str) -> bool {
        false
    }

    #[test]
    fn an_own_container_is_abandoned_only_when_no_task_sees_to_it() {
        let own = Instance::current();
        let mut made = container(&own, Some(NOW + 9), State::RUNNING, 5);
        made.names = Some(vec!["/dcgi-1-a".to_owned()]);
        assert!(!is_abandoned(&own, &made, NOW, |name| name == "dcgi-1-a"));
        assert!(is_abandoned(&own, &made, NOW, nobody));
    }

    #[test]
    fn a_container_of_an_unknown_instance_is_left_until_its_deadline() {
        let own = Instance::current();
        assert!(!is_abandoned(&own, &container(&elsewhere(), Some(NOW + 1), State::RUNNING, 5), NOW, nobody));
        assert!(is_abandoned(&own, &container(&elsewhere(), Some(NOW - 1), State::RUNNING, 5), NOW, nobody));
    }

    #[test]
    fn a_container_without_deadline_is_left_for_as_long_as_it_runs() {
        let own = Instance::current();
        assert!(!is_abandoned(&own, &container(&elsewhere(), None, State::RUNNING, 1_000_000), NOW, nobody));
        assert!(!is_abandoned(&own, &container(&elsewhere(), None, State::EXITED, 5), NOW, nobody));
        assert!(is_abandoned(&own, &container(&elsewhere(), None, State::EXITED, 601), NOW, nobody));
    }

    #[test]
    fn a_foreign_label_is_not_ours_to_judge() {
        let own = Instance::current();
        let mut foreign = container(&own, Some(1), State::EXITED, 1_000_000);
        foreign.labels = Some(HashMap::from([(labels::INSTANCE.to_owned(), "something else".to_owned())]));
        assert!(!is_abandoned(&own, &foreign, NOW, nobody));
    }
}
