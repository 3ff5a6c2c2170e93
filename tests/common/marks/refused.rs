//! What the container refuses, and would last if it did not.

use super::*;

/// The filter refuses it: then nothing can be left.
pub fn plant_keys() -> Planted {
    // KEY_SPEC_SESSION_KEYRING
    // SAFETY: strings that are NUL-terminated, and as long as it says.
    let key = unsafe {
        syscall(SYS_ADD_KEY, c"user".as_ptr(), c"mark-of-another-request".as_ptr(), c"mark".as_ptr(), 4, -3)
    };
    if key == -1 { Ok(()) } else { Err("the filter lets keys through: then look for them".to_owned()) }
}

pub fn look_at_keys() -> String {
    // KEYCTL_GET_KEYRING_ID
    // SAFETY: numbers only.
    let keyring = unsafe { syscall(SYS_KEYCTL, 0, -3, 0) };
    format!("{keyring} {}", text("/proc/keys"))
}

pub fn plant_host_name() -> Planted {
    // SAFETY: as long as it says.
    let named = unsafe { sethostname(c"mark".as_ptr(), 4) };
    if named == -1 { Ok(()) } else { Err("the filter lets it through: then look for it".to_owned()) }
}

pub fn look_at_host_name() -> String {
    let names = [
        text("/proc/sys/kernel/hostname"),
        text("/etc/hostname"),
        std::env::var("HOSTNAME").unwrap_or_default(),
    ];
    let is_own = names.iter().all(|name| name.trim_end() == names[0].trim_end());
    let hosts = text("/etc/hosts").replace(names[0].trim_end(), "OWN");
    format!("{is_own} {} {hosts}{}", names[0].trim_end().len(), text("/proc/sys/kernel/domainname"))
}

pub fn plant_mounts() -> Planted {
    match fs::create_dir("/proc/sys/mark") {
        Ok(()) => Err("it can be made".to_owned()),
        Err(_) => Ok(()),
    }
}

pub fn look_at_mounts() -> String {
    // Without the numbers, which come anew with each namespace.
    let mounts = text("/proc/self/mountinfo");
    let lines = mounts.lines().map(|line| line.split(' ').skip(3).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}
