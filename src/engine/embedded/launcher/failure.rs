//! What can fail in the launcher, in words.

use std::fmt;
use std::io;

use super::Template;

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
    SandboxNamespaces,
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

impl Step {
    fn from_number(number: u32) -> Option<Self> {
        [
            Self::OfSlot,
            Self::OfSandbox,
            Self::Template,
            Self::Fork,
            Self::SlotNamespaces,
            Self::SandboxNamespaces,
            Self::Memory,
            Self::Descriptors,
            Self::Limit,
            Self::Bounding,
            Self::Groups,
            Self::User,
            Self::Capabilities,
            Self::NoNewPrivileges,
            Self::Filter,
            Self::Init,
            Self::Message,
            Self::WorkingDirectory,
            Self::Execute,
        ]
        .into_iter()
        .find(|step| *step as u32 == number)
    }
}

/// A step that failed, and what the kernel said.
#[derive(Debug)]
pub(in super::super) struct Failure {
    what: String,
    /// Whether it is the program that cannot be executed, and not the container that cannot be made.
    pub(in super::super) of_program: bool,
    /// Whether something of the machine's had run out, so that another try may succeed.
    pub(in super::super) is_exhaustion: bool,
    source: io::Error,
}

impl Failure {
    /// Reads the numbers of a record.
    pub(super) fn from_numbers([step, index, errno]: [u32; 3], template: Option<&Template>) -> Self {
        let errno = errno as i32;
        let step = Step::from_number(step);
        let what = match (step, template) {
            (Some(Step::OfSlot), Some(template)) => template.slot_steps.name(index).to_owned(),
            (Some(Step::OfSandbox), Some(template)) => template.sandbox_steps.name(index).to_owned(),
            (Some(Step::OfSlot | Step::OfSandbox), None) | (None, _) => "making the container".to_owned(),
            (Some(Step::Template), _) => "reading what the container is to be".to_owned(),
            (Some(Step::Fork), _) => "forking".to_owned(),
            (Some(Step::SlotNamespaces | Step::SandboxNamespaces), _) => "making namespaces".to_owned(),
            (Some(Step::Memory), _) => "mapping memory".to_owned(),
            (Some(Step::Descriptors), _) => "arranging descriptors".to_owned(),
            (Some(Step::Limit), _) => "setting resource limits".to_owned(),
            (Some(Step::Bounding), _) => "bounding the capabilities".to_owned(),
            (Some(Step::Groups), _) => "setting the groups".to_owned(),
            (Some(Step::User), _) => "setting the user".to_owned(),
            (Some(Step::Capabilities), _) => "dropping the capabilities".to_owned(),
            (Some(Step::NoNewPrivileges), _) => "giving up new privileges".to_owned(),
            (Some(Step::Filter), _) => "attaching the filter of system calls".to_owned(),
            (Some(Step::Init), _) => "running the init".to_owned(),
            (Some(Step::Message), _) => "receiving the request".to_owned(),
            (Some(Step::WorkingDirectory), _) => "entering the working directory".to_owned(),
            (Some(Step::Execute), _) => "executing the program".to_owned(),
        };
        Self {
            what,
            of_program: matches!(step, Some(Step::Execute | Step::WorkingDirectory)),
            is_exhaustion: matches!(
                errno,
                libc::EAGAIN | libc::ENOMEM | libc::ENFILE | libc::EMFILE | libc::ENOSPC
            ),
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
    fn every_step_reads_back() {
        for number in Step::OfSlot as u32..=Step::Execute as u32 {
            assert_eq!(Step::from_number(number).map(|step| step as u32), Some(number));
        }
        assert_eq!(Step::from_number(0), None);
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
