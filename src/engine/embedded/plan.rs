//! What a program's container is made of: from a program and its image to steps for the launcher.
//!
//! All policy is here, and nothing of it is unsafe: which namespaces, which mounts with which options, what is hidden,
//! what is dropped. What it comes to is the template of a slot.

mod mounts;

use mounts::Mounts;

use super::host::Host;
use super::launcher::{Steps, Template};
use super::rootfs::{Found, Rootfs};
use super::seccomp;
use super::user::{self, User};
use crate::engine::{EngineError, EngineErrorKind, Network, Program};
use crate::images::Image;

/// Where the kernel's own file systems are. Nothing of an image's is mounted at or below these.
const THE_KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Capabilities that change nothing which outlives a sandbox.
const HARMLESS: [&str; 5] = ["NET_BIND_SERVICE", "AUDIT_WRITE", "FSETID", "KILL", "SYS_NICE"];

/// A template, and what of the program is settled with it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) template: Template,
    /// Who the program runs as.
    pub(super) user: User,
    /// Who is to own its streams, where that is not us: as the host numbers them.
    pub(super) owner: Option<(u32, u32)>,
}

/// Plans the containers of a program.
///
/// # Errors
/// Where the program asks for what this engine does not have, or the image has no such user.
pub(super) fn plan(program: &Program, image: &Image, host: &Host) -> Result<Plan, EngineError> {
    let rootfs = Rootfs::open(image.rootfs()).map_err(|error| {
        EngineError::new(
            EngineErrorKind::ImageMissing,
            format!("opening the files of image `{}`", program.image),
        )
        .because(error)
    })?;
    let own_network = match &program.network {
        Network::None => true,
        Network::Host => false,
        network @ (Network::Bridge | Network::Named(_)) => {
            return Err(refused(format!(
                "the embedded engine has no network `{}`: it knows `none` and `host`; use engine = \"docker\"",
                network.as_str()
            )));
        }
    };
    let wanted = program.user.as_deref().unwrap_or(&image.config().user);
    let user =
        user::resolve(&rootfs, wanted).map_err(|error| refused("looking up the user").because(error))?;
    for place in THE_KERNELS {
        // SECURITY: what is mounted there, hidden and protected is found by name. A link in an image would lead the
        // names of what is protected elsewhere.
        if rootfs.find_itself(place) == Found::Other {
            return Err(refused(format!(
                "image `{}` has something else than a directory at {place}",
                program.image
            )));
        }
    }
    let mounts = Mounts { program, image, host, rootfs, own_network };
    let capabilities = super::capability::mask(&program.cap_add);
    let filters = seccomp::Filters::new(&program.cap_add.iter().map(String::as_str).collect());
    let mut template = Template {
        slot_namespaces: if own_network { libc::CLONE_NEWNET } else { 0 },
        sandbox_namespaces: libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP,
        init: program.init,
        // Without an init nobody can say how the network namespace was left.
        reuse: program.cap_add.iter().all(|name| HARMLESS.contains(&name.as_str()))
            && (program.init || !own_network),
        own_network,
        set_groups: host.is_root(),
        user: (user.uid, user.gid),
        groups: user.groups.clone(),
        capabilities,
        limits: host.limits(),
        slot_filter: bytes_of(filters.slot),
        filter: bytes_of(filters.sandbox),
        ..Template::default()
    };
    mounts.slot(&mut template.slot_steps)?;
    mounts.sandbox(&mut template.sandbox_steps)?;
    if !host.is_root() && (user.uid, user.gid) != (0, 0) {
        become_another(&mut template.sandbox_steps, &user);
    }
    let owner = (host.is_root() && (user.uid, user.gid) != (0, 0)).then_some((user.uid, user.gid));
    Ok(Plan { template, user, owner })
}

impl Plan {
    /// What it comes to, for an operator to read.
    pub(super) fn describe(&self, program: &Program) -> serde_json::Value {
        let template = &self.template;
        serde_json::json!({
            "user": { "uid": self.user.uid, "gid": self.user.gid, "groups": self.user.groups },
            "capabilities": program.cap_add,
            "no_new_privileges": true,
            "network": program.network.as_str(),
            "read_only": program.read_only,
            "init": program.init,
            "limits": { "memory": program.memory, "cpus": program.cpus, "pids": program.pids },
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

fn bytes_of(filter: Vec<seccomp::Instruction>) -> Vec<u8> {
    filter.into_iter().flat_map(seccomp::Instruction::to_bytes).collect()
}

fn refused(what: impl Into<String>) -> EngineError {
    EngineError::new(EngineErrorKind::Refused, what)
}
