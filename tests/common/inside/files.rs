//! What lies in the container's file system, and what may be done to it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::Facts;
use crate::identity::{names, text};
use crate::kernel::{failure, result};

/// What Docker hides: 20.10's paths, and those that newer ones added.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/system/cpu/cpu0/thermal_throttle",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What Docker lets be read only, and further levers of the kernel.
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/irq/default_smp_affinity",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/shmmax",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/fs/binfmt_misc",
    "/proc/self/oom_score_adj",
    "/proc/kmsg",
    "/proc/mtrr",
    "/proc/config.gz",
    "/sys/kernel",
    "/sys/kernel/uevent_helper",
    "/sys/power/state",
    "/sys/fs/cgroup",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
];

const FOLDERS: &[&str] = &[
    "/",
    "/.dockerenv",
    "/app",
    "/dev",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",
    "/etc",
    "/proc",
    "/run",
    "/sys",
    "/tmp",
    "/usr",
    "/var/tmp",
];

/// Every mount: where, what, how. In the order of their places, and of their making where one covers another.
pub fn mounts(facts: &mut Facts) {
    let mut mounts = BTreeMap::<String, Vec<String>>::new();
    for line in text("/proc/self/mountinfo").lines() {
        // proc(5): id, parent, device, root, point, options, tags, a dash, type, source, options of the file system.
        let (own, shared) = line.split_once(" - ").unwrap_or((line, ""));
        let own: Vec<_> = own.split(' ').collect();
        let shared: Vec<_> = shared.split(' ').collect();
        let [_, _, _, root, point, options, tags @ ..] = &own[..] else { continue };
        let [kind, source, more] = shared[..] else { continue };
        let tags: Vec<_> = tags.iter().map(|tag| tag.split(':').next().unwrap_or_default()).collect();
        let root = if *root == "/" { "whole" } else { "part" };
        let more: Vec<_> = more.split(',').filter(|option| !option.contains("dir=")).collect();
        let more = more.join(",");
        let tags = tags.join(",");
        mounts.entry((*point).to_owned()).or_default().push(format!(
            "type={kind} source={source} root={root} options={options} tags={tags} super={more}"
        ));
    }
    for (point, values) in mounts {
        for value in values {
            facts.add(format_args!("mount.{point}"), value);
        }
    }
}

/// Whether what Docker hides is hidden.
pub fn masked(facts: &mut Facts) {
    for path in MASKED {
        let seen = match fs::metadata(path) {
            Err(error) => failure(&error),
            Ok(metadata) if metadata.is_dir() => match fs::read_dir(path) {
                Ok(entries) => {
                    format!("folder of {}", if entries.count() == 0 { "nothing" } else { "something" })
                }
                Err(error) => failure(&error),
            },
            Ok(metadata) => {
                let kind = if metadata.file_type().is_char_device() { "device" } else { "file" };
                let mut byte = [0];
                match File::open(path).and_then(|mut file| file.read(&mut byte)) {
                    Ok(0) => format!("{kind} of nothing"),
                    Ok(_) => format!("{kind} of something"),
                    Err(error) => failure(&error),
                }
            }
        };
        facts.add(format_args!("masked.{path}"), seen);
    }
}

/// Whether the kernel's levers can be moved: opened for writing, and not written to.
pub fn read_only(facts: &mut Facts) {
    for path in READ_ONLY {
        facts.add(format_args!("write.{path}"), result(open_for_writing(path)));
    }
}

/// Where files can be made.
pub fn writable(facts: &mut Facts) {
    for path in FOLDERS {
        let kind = match fs::symlink_metadata(path) {
            Ok(metadata) => format!("mode={:o} owner={}:{}", metadata.mode(), metadata.uid(), metadata.gid()),
            Err(error) => failure(&error),
        };
        facts.add(format_args!("folder.{path}"), kind);
        facts.add(format_args!("write.{path}"), result(open_for_writing(path)));
    }
    facts.add("write.cwd", result(open_for_writing(".")));
}

/// In a folder, a new file, which is gone afterwards.
fn open_for_writing(path: &str) -> std::io::Result<()> {
    if Path::new(path).is_dir() {
        let file = format!("{path}/inside.{}", std::process::id());
        File::create_new(&file)?;
        return fs::remove_file(file);
    }
    OpenOptions::new().write(true).open(path).map(drop)
}

/// How many terminals can be had at once, of a hundred.
pub fn ptys(facts: &mut Facts) {
    let open = |_| OpenOptions::new().read(true).write(true).open("/dev/ptmx").ok();
    let held: Vec<_> = (0..100).map_while(open).collect();
    facts.add("ptys", held.len());
}

/// Everything below /dev.
pub fn devices(facts: &mut Facts) {
    below("/dev", facts);
}

fn below(folder: &str, facts: &mut Facts) {
    for name in names(folder) {
        let path = format!("{folder}/{name}");
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let kind = metadata.file_type();
        let what = if kind.is_symlink() {
            let target = fs::read_link(&path).map_or_else(|e| failure(&e), |t| t.display().to_string());
            format!("link to {target}")
        } else if kind.is_char_device() || kind.is_block_device() {
            let (major, minor) = (metadata.rdev() >> 8 & 0xfff, metadata.rdev() & 0xff);
            let kind = if kind.is_char_device() { "character" } else { "block" };
            let opened = result(OpenOptions::new().read(true).write(true).open(&path));
            format!("{kind} {major}:{minor} open={opened}")
        } else if kind.is_dir() {
            "folder".to_owned()
        } else {
            "file".to_owned()
        };
        let mode = format!("mode={:o} owner={}:{}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
        facts.add(format_args!("dev.{path}"), format_args!("{what} {mode}"));
        if kind.is_dir() {
            below(&path, facts);
        }
    }
}
