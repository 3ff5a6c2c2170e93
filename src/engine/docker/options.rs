//! A program and its invocation as the engine's create request.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::SystemTime;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType};

use super::labels;
use crate::engine::{ImageConfig, Invocation, Program, Volume};
use crate::instance::Instance;
use crate::variables::{OF_REQUEST, is_request_variable};

/// The create request for one use of a program.
pub(super) fn create_body(
    program: &Program,
    image: &ImageConfig,
    invocation: &Invocation,
    owner: &Instance,
) -> ContainerCreateBody {
    let (entrypoint, command) = match &invocation.command {
        // All of it stands in place of the entrypoint, and the engine drops the image's command then.
        Some(command) => (Some(command.clone()), None),
        None => (program.entrypoint.clone(), program.command.clone()),
    };
    let command = if invocation.args.is_empty() {
        command
    } else {
        // The engine drops the image's command beside an entrypoint of ours; so does an explicit list.
        let base = command.unwrap_or_else(|| match entrypoint {
            Some(_) => Vec::new(),
            None => image.command.clone(),
        });
        Some(base.into_iter().chain(invocation.args.iter().cloned()).collect())
    };
    ContainerCreateBody {
        image: Some(program.image.clone()),
        entrypoint,
        cmd: command,
        working_dir: invocation.working_dir.clone(),
        user: program.user.clone(),
        env: Some(environment(program, invocation)),
        labels: Some(
            labels(&invocation.route, owner).into_iter().chain(request_labels(invocation)).collect(),
        ),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        // End-of-file reaches the program when our half of the attach stream is shut.
        stdin_once: Some(true),
        tty: Some(false),
        host_config: Some(host_config(program)),
        ..Default::default()
    }
}

/// The create request of a container that is not for one request: without what is to run in it.
pub(super) fn standing_body(program: &Program, route: &Arc<str>, owner: &Instance) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(program.image.clone()),
        working_dir: program.working_dir.clone(),
        user: program.user.clone(),
        env: Some(own_environment(program, |_| true).collect()),
        labels: Some(labels(route, owner)),
        host_config: Some(host_config(program)),
        ..Default::default()
    }
}

/// The create request of a container that is never started: to put something into what is mounted there.
pub(super) fn filling_body(image: &str, mount: Mount, owner: &Instance) -> ContainerCreateBody {
    ContainerCreateBody {
        host_config: Some(HostConfig { mounts: Some(vec![mount]), ..Default::default() }),
        ..looking_body(image, owner)
    }
}

/// The same, to look at what is in its image.
pub(super) fn looking_body(image: &str, owner: &Instance) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["/".to_owned()]),
        labels: Some([(labels::INSTANCE.to_owned(), owner.label())].into()),
        ..Default::default()
    }
}

fn host_config(program: &Program) -> HostConfig {
    let memory = program.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    HostConfig {
        memory,
        // Equal to `memory`: no swap beside it.
        memory_swap: memory,
        nano_cpus: program.cpus.map(|cpus| (cpus * 1e9) as i64),
        pids_limit: program.pids.map(i64::from),
        network_mode: Some(program.network.as_str().to_owned()),
        readonly_rootfs: Some(program.read_only),
        tmpfs: Some(program.tmpfs.iter().map(|entry| tmpfs(entry)).collect()),
        mounts: Some(program.volumes.iter().map(mount).collect()),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(program.cap_add.clone()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        // The engine's own init (`docker run --init`): signals and orphans are handled as on a plain host.
        init: Some(program.init),
        // Else the engine writes every body to its disk.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..Default::default()
    }
}

/// The program's own variables, and over them the invocation's. What of a request the invocation does not say is taken out of
/// the image's too, by a name without a value.
fn environment(program: &Program, invocation: &Invocation) -> Vec<String> {
    let is_computed = |name: &str| invocation.env.iter().any(|(computed, _)| computed == name);
    let own = own_environment(program, |name| !is_computed(name));
    let computed = invocation.env.iter().map(|(name, value)| format!("{name}={}", text(value)));
    own.chain(computed).collect()
}

/// The variables of a program, but for what only a request says, which is taken out; as far as they are asked for.
fn own_environment(
    program: &Program,
    is_asked: impl Fn(&str) -> bool + Copy,
) -> impl Iterator<Item = String> {
    let own = program.env.iter().filter(move |(name, _)| is_asked(name) && !is_request_variable(name));
    let taken_out = OF_REQUEST.iter().filter(move |name| is_asked(name)).map(|name| (*name).to_owned());
    own.map(|(name, value)| format!("{name}={value}")).chain(taken_out)
}

/// The API takes text only.
fn text(value: &OsStr) -> std::borrow::Cow<'_, str> {
    value.to_string_lossy()
}

fn labels(route: &Arc<str>, owner: &Instance) -> HashMap<String, String> {
    [(labels::INSTANCE.to_owned(), owner.label()), (labels::ROUTE.to_owned(), route.to_string())].into()
}

/// The labels of a container that is for one request from the beginning.
pub(super) fn request_labels(invocation: &Invocation) -> impl Iterator<Item = (String, String)> {
    let expires = invocation
        .expires
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map(|since| (labels::EXPIRES.to_owned(), since.as_secs().to_string()));
    [(labels::REQUEST.to_owned(), invocation.request_id.to_string())].into_iter().chain(expires)
}

/// `/tmp` or `/tmp:size=64m,mode=700`. The mode is spelled out: Podman's default differs from Docker's.
fn tmpfs(entry: &str) -> (String, String) {
    let (path, options) = entry.split_once(':').unwrap_or((entry, ""));
    let has_mode = options.split(',').any(|option| option.starts_with("mode="));
    let options = match (options, has_mode) {
        ("", _) => "mode=1777".to_owned(),
        (options, true) => options.to_owned(),
        (options, false) => format!("{options},mode=1777"),
    };
    (path.to_owned(), options)
}

fn mount(volume: &Volume) -> Mount {
    // A mount, not a bind string: the engine would make a directory where a bind's source is missing.
    let (typ, source, target, read_only) = match volume {
        Volume::Bind { source, target, read_only } => {
            (MountType::BIND, source.to_string_lossy().into_owned(), target, *read_only)
        }
        Volume::Named { name, target, read_only } => (MountType::VOLUME, name.clone(), target, *read_only),
    };
    Mount {
        typ: Some(typ),
        source: Some(source),
        target: Some(target.clone()),
        read_only: Some(read_only),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::Network;

    fn invocation() -> Invocation {
        Invocation {
            linger: Duration::from_secs(5),
            kill_grace: Duration::from_secs(2),
            route: "/x".into(),
            request_id: "r1".into(),
            env: vec![("REQUEST_METHOD".into(), "GET".into())],
            command: None,
            args: Vec::new(),
            working_dir: None,
            has_input: false,
            lease: crate::engine::Lease::default(),
            expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(77)),
        }
    }

    fn body(program: &Program, invocation: &Invocation) -> ContainerCreateBody {
        let image = ImageConfig { command: vec!["default".into()], ..Default::default() };
        create_body(program, &image, invocation, &Instance::current())
    }

    fn host(program: &Program) -> HostConfig {
        body(program, &invocation()).host_config.unwrap()
    }

    #[test]
    fn a_container_is_closed_by_default() {
        let host = host(&Program::new("x"));
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(host.cap_add, Some(vec![]));
        assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
        assert_eq!((host.memory, host.memory_swap), (Some(256 << 20), Some(256 << 20)));
        assert_eq!(host.nano_cpus, Some(1_000_000_000));
        assert_eq!(host.pids_limit, Some(128));
    }

    #[test]
    fn bodies_never_reach_the_engines_log() {
        assert_eq!(host(&Program::new("x")).log_config.unwrap().typ.as_deref(), Some("none"));
    }

    #[test]
    fn a_computed_variable_wins_over_the_programs_own() {
        let mut program = Program::new("x");
        program.env.insert("REQUEST_METHOD".into(), "FORGED".into());
        program.env.insert("GREETING".into(), "hi".into());
        let env = body(&program, &invocation()).env.unwrap();
        let (given, taken_out): (Vec<_>, Vec<_>) = env.iter().partition(|entry| entry.contains('='));
        assert_eq!(given, ["GREETING=hi", "REQUEST_METHOD=GET"]);
        // Which may be the image's.
        assert!(taken_out.contains(&&"CONTENT_LENGTH".to_owned()), "{env:?}");
        assert!(!taken_out.contains(&&"REQUEST_METHOD".to_owned()), "{env:?}");
    }

    #[test]
    fn arguments_follow_the_images_command() {
        let with_args = Invocation { args: vec!["a".into()], ..invocation() };
        assert_eq!(body(&Program::new("x"), &with_args).cmd.unwrap(), ["default", "a"]);
    }

    #[test]
    fn arguments_follow_an_entrypoint_of_the_routes_own_directly() {
        let with_args = Invocation { args: vec!["a".into()], ..invocation() };
        let program = Program { entrypoint: Some(vec!["/bin/x".into()]), ..Program::new("x") };
        assert_eq!(body(&program, &with_args).cmd.unwrap(), ["a"]);
    }

    #[test]
    fn a_command_of_the_uses_own_replaces_the_programs_and_the_images() {
        let command = Some(vec!["perl".to_owned(), "/x.pl".to_owned()]);
        let program = Program { entrypoint: Some(vec!["/bin/x".into()]), ..Program::new("x") };
        let with_command = Invocation { command, ..invocation() };
        let created = body(&program, &with_command);
        assert_eq!((created.entrypoint.unwrap(), created.cmd), (vec!["perl".into(), "/x.pl".into()], None));
        let with_args = Invocation { args: vec!["a".into()], ..with_command };
        assert_eq!(body(&program, &with_args).cmd.unwrap(), ["a"]);
    }

    #[test]
    fn without_arguments_the_image_keeps_its_command() {
        assert_eq!(body(&Program::new("x"), &invocation()).cmd, None);
    }

    #[test]
    fn a_tmpfs_is_writable_by_all_unless_it_says_otherwise() {
        assert_eq!(tmpfs("/tmp"), ("/tmp".into(), "mode=1777".into()));
        assert_eq!(tmpfs("/tmp:size=1m"), ("/tmp".into(), "size=1m,mode=1777".into()));
        assert_eq!(tmpfs("/run:mode=700"), ("/run".into(), "mode=700".into()));
    }

    #[test]
    fn labels_name_instance_route_request_and_deadline() {
        let labels = body(&Program::new("x"), &invocation()).labels.unwrap();
        assert_eq!(labels["dcgi.instance"], Instance::current().label());
        assert_eq!(labels["dcgi.route"], "/x");
        assert_eq!(labels["dcgi.request"], "r1");
        assert_eq!(labels["dcgi.expires"], "77");
    }

    #[test]
    fn a_missing_bind_source_is_not_made_by_the_engine() {
        let volume = Volume::Bind { source: "/srv/git".into(), target: "/git".into(), read_only: true };
        let program = Program { volumes: vec![volume], network: Network::Host, ..Program::new("x") };
        let mounts = host(&program).mounts.unwrap();
        assert_eq!(mounts[0].typ, Some(MountType::BIND));
        assert_eq!(mounts[0].read_only, Some(true));
        assert_eq!(host(&program).binds, None);
    }
}
