//! What can fail in the launcher, in words.

use std::fmt;
use std::io;

use super::Template;
use super::refusal::{Obstacle, Refusal};

/// What a slot or a sandbox was at when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    /// One of the slot's steps; the index says which.
    OfSlot = 1,
    /// One of the sandbox's steps.
    OfSandbox,
    Template,
    Fork,
    SlotNamespaces,
    Memory,
    Descriptors,
    Limit,
    Bounding,
    Groups,
    User,
    Capabilities,
    NoNewPrivileges,
    Filter,
    Init,
    Message,
    WorkingDirectory,
    Execute,
}

/// What each is, for an operator. Those with steps of their own say it better, where their template is known.
const STEPS: [(Step, &str); 18] = [
    (Step::OfSlot, "making the container"),
    (Step::OfSandbox, "making the container"),
    (Step::Template, "reading what the container is to be"),
    (Step::Fork, "forking"),
    (Step::SlotNamespaces, "making namespaces"),
    (Step::Memory, "mapping memory"),
    (Step::Descriptors, "arranging descriptors"),
    (Step::Limit, "setting resource limits"),
    (Step::Bounding, "bounding the capabilities"),
    (Step::Groups, "setting the groups"),
    (Step::User, "setting the user"),
    (Step::Capabilities, "dropping the capabilities"),
    (Step::NoNewPrivileges, "giving up new privileges"),
    (Step::Filter, "attaching the filter of system calls"),
    (Step::Init, "running the init"),
    (Step::Message, "receiving the request"),
    (Step::WorkingDirectory, "entering the working directory"),
    (Step::Execute, "executing the program"),
];

/// A step that failed, and what the kernel said.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    /// Whether it is the program that cannot be executed, and not the container that cannot be made.
    pub(crate) of_program: bool,
    /// Why it was not, where that is so.
    pub(crate) refusal: Option<Refusal>,
    /// Whether something of the machine's had run out, so that another try may succeed.
    pub(crate) is_exhaustion: bool,
    /// Whether something of the host's is not what it was when the container was planned.
    pub(crate) is_stale: bool,
    source: io::Error,
}

impl Failure {
    /// Reads the numbers of a record.
    pub(super) fn from_numbers([step, index, errno]: [u32; 3], template: Option<&Template>) -> Self {
        let errno = errno as i32;
        let known = STEPS.into_iter().find(|(known, _)| *known as u32 == step);
        let step = known.map(|(step, _)| step);
        let what = match (step, template) {
            (Some(Step::OfSlot), Some(template)) => template.slot_steps.name(index),
            (Some(Step::OfSandbox), Some(template)) => template.sandbox_steps.name(index),
            _ => known.map_or("making the container", |(_, what)| what),
        };
        Self {
            what: what.to_owned(),
            of_program: matches!(step, Some(Step::Execute | Step::WorkingDirectory)),
            refusal: match step {
                Some(Step::Execute) => Some(Refusal { errno, obstacle: Obstacle::from_number(index) }),
                Some(Step::WorkingDirectory) => Some(Refusal { errno, obstacle: Obstacle::WorkingDirectory }),
                _ => None,
            },
            is_exhaustion: matches!(
                errno,
                libc::EAGAIN | libc::ENOMEM | libc::ENFILE | libc::EMFILE | libc::ENOSPC
            ),
            is_stale: errno == libc::ESTALE,
            source: io::Error::from_raw_os_error(errno),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_words() {
        let numbers: Vec<_> = STEPS.iter().map(|(step, _)| *step as u32).collect();
        assert_eq!(numbers, (Step::OfSlot as u32..=Step::Execute as u32).collect::<Vec<_>>());
    }

    #[test]
    fn a_failure_names_the_step_and_the_error() {
        let mut template = Template::default();
        template.sandbox_steps.mount(c"proc", c"/proc", c"proc", 0, c"");
        let failure = Failure::from_numbers([Step::OfSandbox as u32, 0, libc::EPERM as u32], Some(&template));
        assert_eq!(
            crate::reason::Reason(&failure).to_string(),
            "mounting proc at /proc: Operation not permitted (os error 1)"
        );
    }
}
