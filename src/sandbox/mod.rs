//! Containers of our own making: namespaces, control groups, overlayfs and seccomp, without a daemon.
//!
//! This room uses the leaves `instance` and `reason`, and no other room. It knows no engine, route or request, and not
//! where a root directory comes from; it never pulls, unpacks or writes to one.
//!
//! From a [`Spec`], what a container is to be, [`plan`] makes a template; from that the launcher makes *slots*, of what no
//! request can change, and in a slot one *sandbox* after the other, each of which executes a program. What a program is
//! executed with comes last, as a [`Run`]; how it ended is a [`Message`]. The agent starts its programs by the same code
//! ([`Spawner`]).
//!
//! - `spec`: what a container is to be; `error`: why it cannot be
//! - `plan`: from that to steps for the launcher. All policy is here
//! - `host`, `user`, `rootfs`, `machine`, `capability`, `seccomp`: what a plan needs to know
//! - `cgroup`: limits on memory, processors and processes
//! - `launcher`: processes that make containers; the only `unsafe` code of the crate

mod capability;
mod cgroup;
mod error;
mod host;
mod launcher;
mod machine;
mod plan;
mod rootfs;
mod seccomp;
mod spec;
mod user;

pub(crate) use cgroup::{Cgroups, Group};
pub(crate) use error::{PlanError, PlanErrorKind};
pub(crate) use host::Host;
pub(crate) use launcher::{
    Execution, Failure, MESSAGE, Message, Obstacle, Refusal, Run, Sealed, Spawner, Tag, Template, Zygote,
    listening, make_sandbox,
};
pub(crate) use machine::{Machine, is_seen};
pub(crate) use plan::{Plan, opened, plan, user_of};
pub(crate) use rootfs::Rootfs;
pub(crate) use spec::{Limits, Network, Root, Spec, Volume};
pub(crate) use user::User;
