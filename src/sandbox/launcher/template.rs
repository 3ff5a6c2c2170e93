//! What a slot's sandboxes are like: all that no request changes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::step::Steps;
use super::wire::{Reader, Writer};

/// The size of a page, or less.
const PAGE: usize = 4096;

/// The description of a slot and of the sandboxes that it makes, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Template {
    /// `CLONE_NEW*`: what a slot's sandboxes share with it, beside its mounts.
    pub(in crate::sandbox) slot_namespaces: i32,
    /// `CLONE_NEW*`: what each sandbox has of its own.
    pub(in crate::sandbox) sandbox_namespaces: i32,
    /// What the slot does once.
    pub(in crate::sandbox) slot_steps: Steps,
    /// What each sandbox does.
    pub(in crate::sandbox) sandbox_steps: Steps,
    /// Whether a small init is process 1.
    pub(in crate::sandbox) init: bool,
    /// Whether a slot may serve again: nothing that its sandboxes may do outlives them.
    pub(crate) reuse: bool,
    /// Whether a sandbox has to show that its network namespace is as it was.
    pub(in crate::sandbox) own_network: bool,
    /// Whether supplementary groups can be set: not in a user namespace of an ordinary user's.
    pub(in crate::sandbox) set_groups: bool,
    /// The program's user and group, as seen in the slot's user namespace.
    pub(in crate::sandbox) user: (u32, u32),
    /// Its supplementary groups.
    pub(in crate::sandbox) groups: Vec<u32>,
    /// The capabilities that the program may have, a bit each.
    pub(in crate::sandbox) capabilities: u64,
    /// `RLIMIT_*`, soft and hard.
    pub(in crate::sandbox) limits: Vec<(u32, u64, u64)>,
    /// The filter of system calls that a slot attaches, 8 bytes an instruction; its sandboxes have it from there.
    pub(in crate::sandbox) slot_filter: Vec<u8>,
    /// The filter that each sandbox adds.
    pub(in crate::sandbox) filter: Vec<u8>,
}

impl Template {
    /// Writes it into a file that cannot change any more.
    pub(super) fn sealed(&self) -> io::Result<(OwnedFd, usize)> {
        let mut writer = Writer::default();
        for number in [self.slot_namespaces as u32, self.sandbox_namespaces as u32, self.user.0, self.user.1]
        {
            writer.number(number);
        }
        for flag in [self.init, self.reuse, self.own_network, self.set_groups] {
            writer.number(flag.into());
        }
        writer.long(self.capabilities);
        writer.bytes(&self.groups.iter().flat_map(|group| group.to_ne_bytes()).collect::<Vec<_>>());
        writer.number(self.limits.len() as u32);
        for (resource, soft, hard) in &self.limits {
            writer.number(*resource);
            writer.long(*soft);
            writer.long(*hard);
        }
        for bytes in
            [&self.slot_filter, &self.filter, &self.slot_steps.encoded.0, &self.sandbox_steps.encoded.0]
        {
            writer.bytes(bytes);
        }
        // So that the kernel, which copies a page from where a mount's options begin, finds one.
        writer.0.resize(writer.0.len() + PAGE, 0);
        let mut file =
            File::from(memfd_create("dcgi-template", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.write_all(&writer.0)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        Ok((file.into(), writer.0.len()))
    }
}

/// A template as the launcher reads it, where it lies.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) slot_namespaces: i32,
    pub(super) sandbox_namespaces: i32,
    pub(super) user: (u32, u32),
    pub(super) init: bool,
    pub(super) reuse: bool,
    pub(super) own_network: bool,
    pub(super) set_groups: bool,
    pub(super) capabilities: u64,
    pub(super) groups: &'a [u8],
    limits: Reader<'a>,
    limit_count: u32,
    pub(super) slot_filter: &'a [u8],
    pub(super) filter: &'a [u8],
    pub(super) slot_steps: &'a [u8],
    pub(super) sandbox_steps: &'a [u8],
}

impl<'a> View<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let slot_namespaces = reader.number()? as i32;
        let sandbox_namespaces = reader.number()? as i32;
        let user = (reader.number()?, reader.number()?);
        let (init, reuse) = (reader.number()? != 0, reader.number()? != 0);
        let (own_network, set_groups) = (reader.number()? != 0, reader.number()? != 0);
        let capabilities = reader.long()?;
        let groups = reader.bytes()?;
        let limit_count = reader.number()?;
        let limits = reader;
        for _ in 0..limit_count {
            reader.number()?;
            reader.long()?;
            reader.long()?;
        }
        Some(Self {
            slot_namespaces,
            sandbox_namespaces,
            user,
            init,
            reuse,
            own_network,
            set_groups,
            capabilities,
            groups,
            limits,
            limit_count,
            slot_filter: reader.bytes()?,
            filter: reader.bytes()?,
            slot_steps: reader.bytes()?,
            sandbox_steps: reader.bytes()?,
        })
    }

    /// `RLIMIT_*`, soft and hard.
    pub(super) fn limits(&self) -> impl Iterator<Item = (u32, u64, u64)> + 'a {
        let mut reader = self.limits;
        (0..self.limit_count).filter_map(move |_| Some((reader.number()?, reader.long()?, reader.long()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Seek;

    use super::*;

    #[test]
    fn a_template_reads_back() {
        let mut template = Template {
            init: true,
            set_groups: true,
            user: (33, 34),
            groups: vec![5, 6],
            capabilities: 1 << 40,
            limits: vec![(7, 1024, 4096), (4, 0, u64::MAX)],
            slot_filter: vec![2; 8],
            filter: vec![1; 16],
            ..Template::default()
        };
        template.slot_steps.loopback_up();
        let (file, length) = template.sealed().unwrap();
        let mut file = File::from(file);
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), length);
        let view = View::read(&bytes).unwrap();
        assert_eq!((view.init, view.reuse, view.own_network, view.set_groups), (true, false, false, true));
        assert_eq!(
            (view.user, view.capabilities, view.slot_filter, view.filter),
            ((33, 34), 1 << 40, &[2; 8][..], &[1; 16][..])
        );
        assert_eq!(view.groups, [5_u32.to_ne_bytes(), 6_u32.to_ne_bytes()].concat());
        assert_eq!(view.limits().collect::<Vec<_>>(), template.limits);
        assert_eq!(view.slot_steps, template.slot_steps.encoded.0);
        assert!(view.sandbox_steps.is_empty());
    }

    #[test]
    fn half_a_template_is_none() {
        assert!(View::read(&[0; 20]).is_none());
    }
}
