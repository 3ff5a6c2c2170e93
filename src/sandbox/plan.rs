//! What a container is made of: from its [`Spec`] to steps for the launcher.
//!
//! All policy is here, and nothing of it is unsafe: which namespaces, which mounts with which options, what is hidden,
//! what is dropped. What it comes to is the template of a slot.

mod mounts;

use std::path::{Component, Path};

use mounts::Mounts;

use super::capability;
use super::error::PlanError;
use super::host::Host;
use super::launcher::{Steps, Template};
use super::machine;
use super::rootfs::{Found, Rootfs};
use super::seccomp;
use super::spec::{Network, Root, Spec};
use super::user::{self, User};

/// Where the kernel's own file systems are. Nothing of an image's is mounted at or below these.
pub(in crate::sandbox) const THE_KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Capabilities that change nothing which outlives a sandbox.
const HARMLESS: [&str; 5] = ["NET_BIND_SERVICE", "AUDIT_WRITE", "FSETID", "KILL", "SYS_NICE"];

/// A template, and what of the program is settled with it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) template: Template,
    /// Who the program runs as.
    pub(crate) user: User,
    /// Who is to own its streams, where that is not us: as the host numbers them.
    pub(crate) owner: Option<(u32, u32)>,
}

/// What a root has in it. `name` is what messages call it.
///
/// # Errors
/// Where it cannot be opened.
pub(crate) fn opened(root: &Root, name: &str) -> Result<Rootfs, PlanError> {
    let rootfs = match root {
        Root::Image(path) | Root::Directory { path, .. } => Rootfs::open(path),
        Root::Machine { .. } => Rootfs::of_machine(&machine::PARTS),
    };
    rootfs.map_err(|error| PlanError::missing(format!("opening the files of {name}")).because(error))
}

/// Who a program is that is to be this `user`: nobody in particular on this machine, where nobody is said. `name` is what
/// messages call the root.
///
/// # Errors
/// Where the root has no such user.
pub(crate) fn user_of(root: &Root, name: &str, rootfs: &Rootfs, user: &str) -> Result<User, PlanError> {
    match root {
        Root::Machine { .. } if user.is_empty() => Ok(user::unprivileged(rootfs)),
        _ => user::resolve(rootfs, user)
            .map_err(|error| PlanError::refused(format!("looking up the user of {name}")).because(error)),
    }
}

/// Plans the containers of a kind.
///
/// # Errors
/// Where the root cannot be opened, something in it is not as it has to be, or it has no such user.
pub(crate) fn plan(spec: &Spec, host: &Host) -> Result<Plan, PlanError> {
    let rootfs = opened(&spec.root, &spec.name)?;
    let own_network = spec.network == Network::Own;
    let user = user_of(&spec.root, &spec.name, &rootfs, &spec.user)?;
    for place in THE_KERNELS {
        // SECURITY: what is mounted there, hidden and protected is found by name. A link in an image would lead the
        // names of what is protected elsewhere.
        if rootfs.find_itself(place) == Found::Other {
            return Err(PlanError::refused(format!(
                "{} has something else than a directory at {place}",
                spec.name
            )));
        }
    }
    for volume in &spec.image_volumes {
        // SECURITY: names mean to the kernel what they mean behind links, and to whoever checks them what they say.
        if Path::new(volume).components().any(|part| part == Component::ParentDir) {
            return Err(PlanError::refused(format!(
                "{} declares the volume `{volume}`, and no path of a volume may lead through `..`",
                spec.name
            )));
        }
    }
    let mounts = Mounts::new(spec, host, rootfs, &user);
    let capabilities = capability::mask(&spec.cap_add);
    let filters = seccomp::Filters::new(&spec.cap_add.iter().map(String::as_str).collect());
    let mut template = Template {
        slot_namespaces: if own_network { libc::CLONE_NEWNET } else { 0 },
        sandbox_namespaces: libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP,
        init: spec.init,
        // Without an init nobody can say how the network namespace was left.
        reuse: spec.cap_add.iter().all(|name| HARMLESS.contains(&name.as_str()))
            && (spec.init || !own_network),
        own_network,
        set_groups: host.is_root(),
        user: (user.uid, user.gid),
        groups: user.groups.clone(),
        capabilities,
        limits: host.limits(),
        slot_filter: seccomp::Instruction::bytes_of(filters.slot),
        filter: seccomp::Instruction::bytes_of(filters.sandbox),
        ..Template::default()
    };
    mounts.slot(&mut template.slot_steps)?;
    if own_network {
        for address in &spec.listen {
            template.slot_steps.listen(*address);
        }
    }
    mounts.sandbox(&mut template.sandbox_steps)?;
    if !host.is_root() && (user.uid, user.gid) != (0, 0) {
        become_another(&mut template.sandbox_steps, &user);
    }
    let owner = (host.is_root() && (user.uid, user.gid) != (0, 0)).then_some((user.uid, user.gid));
    Ok(Plan { template, user, owner })
}

impl Plan {
    /// What it comes to, for an operator to read.
    pub(crate) fn describe(&self, spec: &Spec) -> serde_json::Value {
        let (template, limits) = (&self.template, &spec.limits);
        serde_json::json!({
            "user": { "uid": self.user.uid, "gid": self.user.gid, "groups": self.user.groups },
            "capabilities": spec.cap_add,
            "no_new_privileges": true,
            "network": match spec.network {
                Network::Own => "none",
                Network::Host => "host",
            },
            "read_only": spec.read_only,
            "init": spec.init,
            "limits": { "memory": limits.memory, "cpus": limits.cpus, "pids": limits.pids },
            "slot": template.slot_steps.names(),
            "sandbox": template.sandbox_steps.names(),
        })
    }
}

/// As an ordinary user there is one user to be had: ourselves, root to the slot. A namespace within gives it the
/// number that the program wants.
fn become_another(steps: &mut Steps, user: &User) {
    steps.unshare(libc::CLONE_NEWUSER, "a user namespace");
    steps.write(c"/proc/self/uid_map", format!("{} 0 1", user.uid).as_bytes());
    steps.write(c"/proc/self/gid_map", format!("{} 0 1", user.gid).as_bytes());
}
