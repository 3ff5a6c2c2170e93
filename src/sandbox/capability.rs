//! Capabilities as the kernel numbers them: `linux/capability.h`.

/// In order: the first is bit 0.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The capabilities as a mask. `ALL` is all that there are.
pub(super) fn mask(names: &[String]) -> u64 {
    names.iter().fold(0, |mask, name| {
        let bits = match NAMES.iter().position(|known| known == name) {
            Some(bit) => 1 << bit,
            None if name == "ALL" => (1 << NAMES.len()) - 1,
            None => 0,
        };
        mask | bits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_the_kernels_bits() {
        assert_eq!(mask(&[]), 0);
        assert_eq!(mask(&["CHOWN".into(), "NET_BIND_SERVICE".into()]), 1 | 1 << 10);
        assert_eq!(mask(&["CHECKPOINT_RESTORE".into()]), 1 << 40);
        assert_eq!(mask(&["ALL".into()]), (1 << 41) - 1);
    }
}
