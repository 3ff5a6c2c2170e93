//! Where a server's programs run, seen from outside: through the `docker` command, or through `/proc`.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::docker::{self, PROBE};
use super::embedded::{compiled, root_of_scripts};
use super::processes::{descendants, name_of, variables_of};

/// The user of servers that are not to be root: `nobody` of every system.
const ORDINARY: u32 = 65534;

/// The engine under a server.
#[derive(Clone, Debug)]
pub enum Under {
    Docker,
    /// The same where requests go to containers that are there already: what is counted is the programs in them.
    DockerAgents,
    /// With its images in this directory, as root or not.
    Embedded {
        store: PathBuf,
        ordinary: Option<PathBuf>,
    },
}

impl Under {
    /// The embedded engine as root, with the probe's images in a store of its own below a folder.
    pub fn embedded(folder: &Path) -> Self {
        let store = folder.join("store");
        import_probe(&store, |_| {});
        Self::Embedded { store, ordinary: None }
    }

    /// The same as an ordinary user, who has cgroups of his own. The folder must be one that everybody may enter.
    pub fn embedded_as_ordinary_user(folder: &Path) -> Self {
        let store = folder.join("store-of-nobody");
        std::fs::create_dir(&store).unwrap();
        chown(&store, Some(ORDINARY), Some(ORDINARY)).unwrap();
        // Copied: whoever runs this need not be able to enter the folder that it is built in.
        let executable = folder.join("dcgi");
        std::fs::copy(env!("CARGO_BIN_EXE_dcgi"), &executable).unwrap();
        import_probe(&store, |command| {
            *command = as_ordinary_user(&executable, "");
        });
        Self::Embedded { store, ordinary: Some(executable) }
    }

    /// The command that runs dcgi.
    pub fn command(&self) -> Command {
        match self {
            Self::Docker | Self::DockerAgents => Command::new(env!("CARGO_BIN_EXE_dcgi")),
            Self::Embedded { store, ordinary } => {
                let mut command = match ordinary {
                    None => Command::new(env!("CARGO_BIN_EXE_dcgi")),
                    Some(executable) => as_ordinary_user(executable, &delegate()),
                };
                command.env("DCGI_STORE", store);
                command
            }
        }
    }

    /// The name of the probe's image.
    pub fn probe(&self) -> &'static str {
        match self {
            Self::Docker | Self::DockerAgents => docker::probe_image(),
            Self::Embedded { .. } => PROBE,
        }
    }

    /// How many containers a server has now, running or not.
    pub fn containers(&self, server: u32) -> usize {
        match self {
            Self::Docker => listed(&[&format!("name=^/dcgi-{server}-")]).len(),
            Self::DockerAgents => programs(server, "REQUEST_ID="),
            Self::Embedded { .. } => sandboxes(server, "REQUEST_ID="),
        }
    }

    /// How many of them run the program of a route, by the route's name.
    #[track_caller]
    pub fn containers_of(&self, server: u32, route: &str) -> usize {
        // The script's name, by which programs are known here, is the route's but for this one, which has none.
        assert_ne!(route, "/", "a program of the route `/` cannot be told by its name: count all");
        match self {
            Self::Docker => {
                listed(&[&format!("name=^/dcgi-{server}-"), &format!("label=dcgi.route={route}")]).len()
            }
            Self::DockerAgents => programs(server, &format!("SCRIPT_NAME={route}\0")),
            Self::Embedded { .. } => sandboxes(server, &format!("SCRIPT_NAME={route}\0")),
        }
    }

    /// How many of them are for a request, by its id.
    pub fn containers_for(&self, server: u32, request: &str) -> usize {
        match self {
            Self::Docker => docker::containers(&format!("dcgi.request={request}")),
            Self::DockerAgents => programs(server, &format!("REQUEST_ID={request}\0")),
            Self::Embedded { .. } => sandboxes(server, &format!("REQUEST_ID={request}\0")),
        }
    }
}

fn listed(filters: &[&str]) -> Vec<String> {
    let mut arguments = vec!["ps", "-aq", "--no-trunc"];
    arguments.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
    docker::docker(&arguments).lines().map(str::to_owned).collect()
}

/// How many programs a server's containers run that have this in their environment. An init of the engine's own, which
/// has it too, is none.
fn programs(server: u32, variable: &str) -> usize {
    let containers = listed(&[&format!("name=^/dcgi-{server}-")]);
    let is_inside = |pid: &u32| {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        containers.iter().any(|container| groups.contains(container))
    };
    let has = |pid: &u32| variables_of(*pid).contains(variable);
    let is_program = |pid: &u32| name_of(*pid).is_some_and(|name| name != "docker-init");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(has).filter(is_program).filter(is_inside).count()
}

/// In how many PID namespaces below a process somebody has this in his environment.
fn sandboxes(server: u32, variable: &str) -> usize {
    let has = |pid: &u32| variables_of(*pid).contains(variable);
    let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(server);
    let found: BTreeSet<_> = descendants(server).into_iter().filter(has).filter_map(namespace).collect();
    found.into_iter().filter(|found| Some(found) != own.as_ref()).count()
}

/// Makes the probe's images in a store.
fn import_probe(store: &Path, change: impl Fn(&mut Command)) {
    import_probe_as(store, PROBE, &[], &change);
    import_probe_as(store, &format!("{PROBE}-in-srv"), &["--workdir", "/srv"], &change);
    import_root_as(store, &format!("{PROBE}-of-scripts"), &root_of_scripts(), &[], &change);
}

/// Makes an image of the probe in a store, with more options of `dcgi image import`.
pub fn import_probe_as(store: &Path, reference: &str, more: &[&str], change: impl Fn(&mut Command)) {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_path_with_name(compiled("probe.rs"), "app/probe").unwrap();
    // A directory that its owner may not write to.
    let mut closed = tar::Header::new_gnu();
    closed.set_entry_type(tar::EntryType::Directory);
    closed.set_mode(0o555);
    closed.set_size(0);
    archive.append_data(&mut closed, "closed/", std::io::empty()).unwrap();
    import_root_as(store, reference, &archive.into_inner().unwrap(), more, change);
}

fn import_root_as(
    store: &Path,
    reference: &str,
    archive: &[u8],
    more: &[&str],
    change: impl Fn(&mut Command),
) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dcgi"));
    change(&mut command);
    command.args(["image", "--store"]).arg(store).args(["import", "-", reference]);
    command.args(["--entrypoint", "/app/probe", "--env", "FROM_IMAGE=yes"]).args(more);
    let (success, said) = super::piped(&mut command, archive);
    assert!(success, "{command:?}: {said}");
}

/// A command that runs dcgi as an ordinary user, who has first put himself into these cgroups.
fn as_ordinary_user(executable: &Path, doors: &str) -> Command {
    let id = ORDINARY.to_string();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        "for door in {doors}; do echo $$ > $door || exit 9; done; \
         exec setpriv --reuid={id} --regid={id} --clear-groups -- \"$@\""
    ));
    command.arg("sh").arg(executable).env("HOME", "/nonexistent");
    command
}

/// Takes back the cgroups that servers of an ordinary user had. Once they have ended.
pub fn take_back_cgroups() {
    for folder in delegated() {
        for below in [SERVERS, "dcgi"] {
            _ = std::fs::remove_dir(folder.join(below));
        }
        _ = std::fs::remove_dir(folder);
    }
}

/// The group of version 2 in which an ordinary user's servers are themselves: one that has processes is not divided.
const SERVERS: &str = "server";

/// Cgroups that the ordinary user may divide, as a service manager would hand them over: their doors.
fn delegate() -> String {
    let mut doors = Vec::new();
    for folder in delegated() {
        std::fs::create_dir_all(&folder).unwrap();
        let mut handed_over = vec![folder.clone()];
        let door = match folder.join("cgroup.subtree_control").exists() {
            // Version 2. What is handed over is what cgroups(7) names, "Cgroups v2 delegation", and no limit.
            true => {
                std::fs::create_dir_all(folder.join(SERVERS)).unwrap();
                handed_over.push(folder.join("cgroup.procs"));
                handed_over.push(folder.join("cgroup.subtree_control"));
                folder.join(SERVERS).join("cgroup.procs")
            }
            false => {
                handed_over.extend(std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()));
                folder.join("cgroup.procs")
            }
        };
        for path in handed_over {
            chown(path, Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
        doors.push(door.display().to_string());
    }
    doors.join(" ")
}

/// The cgroups that an ordinary user gets: one a tree of version 1, or the one of version 2, where there is no other.
fn delegated() -> Vec<PathBuf> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let find = |name: &str| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let folder = format!("/sys/fs/cgroup/{name}{path}/dcgi-tests");
            controllers.split(',').any(|controller| controller == name).then(|| PathBuf::from(folder))
        })
    };
    let found: Vec<_> = ["memory", "cpu", "pids"].into_iter().filter_map(find).collect();
    if !found.is_empty() {
        assert_eq!(found.len(), 3, "the suites hand over cgroups of version 1, and find: {own}");
        return found;
    }
    // Below the root of the tree, the one group that may be divided and have processes.
    let root = Path::new("/sys/fs/cgroup");
    let enabled = std::fs::write(root.join("cgroup.subtree_control"), "+memory +cpu +pids");
    enabled.unwrap_or_else(|error| panic!("the suites hand over cgroups, of which there are none: {error}"));
    vec![root.join("dcgi-tests")]
}

/// A folder for everything that servers of a suite read and write, which everybody may enter.
pub fn open_folder() -> PathBuf {
    let folder = PathBuf::from(format!("/var/tmp/dcgi-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A folder of one case's own, which whoever the server is may write to.
pub fn shared_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    folder
}
