//! The control groups that dcgi makes: whether they are gone when they should be.

use std::fs;
use std::path::{Path, PathBuf};

/// How many cgroups a dcgi has for its slots, in all trees together.
pub(crate) fn count(pid: u32) -> usize {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut count = 0;
    for line in own.lines() {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
        for mount in mounts.lines() {
            let [_, place, kind, options, ..] = mount.split(' ').collect::<Vec<_>>()[..] else { continue };
            let fits = match kind {
                "cgroup2" => controllers.is_empty(),
                "cgroup" => {
                    !controllers.is_empty()
                        && controllers.split(',').all(|one| options.split(',').any(|option| option == one))
                }
                _ => false,
            };
            if fits {
                count += slots(&Path::new(place).join(path.trim_start_matches('/')).join("dcgi"), pid);
            }
        }
    }
    count
}

/// Groups are `BOOT.NAMESPACE.PID.START-ENGINE/SLOT`.
fn slots(folder: &Path, pid: u32) -> usize {
    let folders = |path: PathBuf| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir())
    };
    let ours = folders(folder.to_owned()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split('.').nth(2) == Some(pid.to_string().as_str())
    });
    ours.map(|path| folders(path).count()).sum()
}
