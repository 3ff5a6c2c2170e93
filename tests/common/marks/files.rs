//! Files and directories.

use super::*;

/// Those of these that this container lets be written to; the route says which that must be.
fn writable() -> Vec<String> {
    let wanted = std::env::var("WRITABLE").unwrap_or_default();
    wanted.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned).collect()
}

pub fn plant_files() -> Planted {
    for folder in writable() {
        let below = format!("{}/{MARK}", folder.trim_end_matches('/'));
        said(&below, fs::create_dir(&below))?;
        said(&below, fs::write(format!("{below}/file"), MARK))?;
        said(&below, std::os::unix::fs::symlink("/proc/self", format!("{below}/link")))?;
        // What was in the image is changed and removed, too.
        let own = format!("{}/in-image", folder.trim_end_matches('/'));
        if fs::exists(&own).unwrap_or(false) {
            said(&own, fs::write(&own, MARK))?;
        }
        said(&folder, fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)))?;
    }
    if writable().contains(&"/".to_owned()) {
        said("the program", fs::remove_file("/app/marks"))?;
    }
    Ok(())
}

pub fn look_at_files() -> String {
    let mut out = String::new();
    for folder in ["/app", "/etc", "/tmp", "/dev/shm", "/dev/mqueue", "/data"] {
        let mode = fs::metadata(folder).map(|metadata| metadata.permissions().mode());
        writeln!(out, "{folder} {mode:?}").unwrap();
        let mut names: Vec<_> =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        names.sort();
        writeln!(out, "{names:?}").unwrap();
        if folder != "/app" && folder != "/etc" {
            tree(folder, &mut out);
        }
    }
    let mut root: Vec<_> = fs::read_dir("/").into_iter().flatten().flatten().map(|e| e.file_name()).collect();
    root.sort();
    writeln!(out, "{root:?} {:o}", fs::metadata("/").unwrap().permissions().mode()).unwrap();
    out
}
