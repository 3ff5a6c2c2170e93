//! Linux capabilities by name.

use toml::de::DeValue;

use super::value::{Reading, text};

/// All that capabilities(7) lists up to Linux 6.x, and Docker's word for all of them.
const KNOWN: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// A capability in Docker's form: upper case, without `CAP_`.
pub(super) fn capability(value: &DeValue<'_>) -> Reading<String> {
    const WHAT: &str = "a Linux capability such as \"NET_BIND_SERVICE\", or \"ALL\"";
    let name = text(value, WHAT)?.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    if !KNOWN.contains(&name) {
        return Err(format!("expected {WHAT}"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_known_in_any_letter_case_with_and_without_its_prefix() {
        for text in ["net_raw", "NET_RAW", "CAP_NET_RAW", "cap_net_raw"] {
            assert_eq!(capability(&DeValue::String(text.into())), Ok("NET_RAW".to_owned()));
        }
    }

    #[test]
    fn an_unknown_capability_is_refused() {
        assert_eq!(
            capability(&DeValue::String("NET_BOUND".into())),
            Err("expected a Linux capability such as \"NET_BIND_SERVICE\", or \"ALL\"".to_owned())
        );
    }
}
