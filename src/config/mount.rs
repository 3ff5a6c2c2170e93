//! What is mounted into a container: volumes, and file systems in memory.

use std::path::{Component, Path, PathBuf};

use toml::de::DeValue;

use crate::engine::{Inside, Program, Volume};

use super::value::{Reading, text};

/// A volume in the form `SOURCE:TARGET[:ro|rw]`.
///
/// A source that begins with `/` or `.` is a path, a relative one from `base`; any other is the name of a volume.
/// The path need not exist: it is the engine's machine that must have it.
pub(super) fn volume(base: &Path) -> impl Fn(&DeValue<'_>) -> Reading<Volume> {
    move |value| {
        const WHAT: &str = "a volume such as \"./data:/data:ro\"";
        let expected = |more: &str| format!("expected {WHAT}{more}");
        let parts: Vec<_> = text(value, WHAT)?.split(':').collect();
        let (source, target, read_only) = match parts[..] {
            [source, target] | [source, target, "rw"] => (source, target, false),
            [source, target, "ro"] => (source, target, true),
            [_, _, _] => return Err(expected("; its mode is \"ro\" or \"rw\"")),
            _ => return Err(expected("")),
        };
        if !is_mount_point(target) {
            return Err(expected("; its second part is an absolute path in the container, and not \"/\""));
        }
        let target = target.to_owned();
        if source.starts_with(['/', '.']) {
            return Ok(Volume::Bind { source: normal(&base.join(source)), target, read_only });
        }
        if !is_name(source) {
            return Err(expected(
                "; its first part is a path that begins with \"/\" or \".\", or a volume's name",
            ));
        }
        Ok(Volume::Named { name: source.to_owned(), target, read_only })
    }
}

/// A file system in memory in Docker's form, `PATH[:OPTIONS]`.
pub(super) fn tmpfs(value: &DeValue<'_>) -> Reading<String> {
    const WHAT: &str = "an absolute path such as \"/tmp\" or \"/tmp:size=64m,mode=1777\"";
    let text = text(value, WHAT)?;
    let (target, options) = text.split_once(':').unwrap_or((text, "-"));
    if !is_mount_point(target) || options.is_empty() {
        return Err(format!("expected {WHAT}"));
    }
    Ok(text.to_owned())
}

/// A name as Docker gives them to volumes and networks.
///
/// SECURITY: as a network it excludes `container:ID`, another container's own.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A path that two mounts of a program share, which engines refuse.
pub(super) fn mounted_twice(program: &Program) -> Option<&str> {
    let mut targets: Vec<_> = targets(program).collect();
    targets.sort_unstable();
    targets.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// Where a program has something mounted, without slashes at the end.
pub(super) fn targets(program: &Program) -> impl Iterator<Item = &str> {
    let volumes = program.volumes.iter().map(|volume| match volume {
        Volume::Bind { target, .. } | Volume::Named { target, .. } => target.as_str(),
    });
    let tmpfs = program.tmpfs.iter().map(|tmpfs| tmpfs.split(':').next().unwrap_or_default());
    let sockets = program.connect.iter().filter_map(|connect| match &connect.inside {
        Inside::Unix(path) => Some(path.as_str()),
        Inside::Tcp(_) => None,
    });
    volumes.chain(tmpfs).chain(sockets).map(|target| target.trim_end_matches('/'))
}

fn is_mount_point(path: &str) -> bool {
    path.starts_with('/') && normal(Path::new(path)) != Path::new("/")
}

/// An absolute path without `.` and `..`, symbolic links not followed.
pub fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Reading<Volume> {
        volume(Path::new("/etc/dcgi"))(&DeValue::String(text.into()))
    }

    fn bind(source: &str, target: &str, read_only: bool) -> Reading<Volume> {
        Ok(Volume::Bind { source: source.into(), target: target.to_owned(), read_only })
    }

    #[test]
    fn a_relative_source_is_taken_from_the_directory_of_the_file() {
        assert_eq!(read("./data:/data"), bind("/etc/dcgi/data", "/data", false));
        assert_eq!(read(".:/data"), bind("/etc/dcgi", "/data", false));
        assert_eq!(read("../data:/data"), bind("/etc/data", "/data", false));
        assert_eq!(read("../../../data:/data"), bind("/data", "/data", false));
    }

    #[test]
    fn an_absolute_source_stays() {
        assert_eq!(read("/srv/data:/data"), bind("/srv/data", "/data", false));
    }

    #[test]
    fn a_mode_says_whether_writes_are_refused() {
        assert_eq!(read("/a:/b:ro"), bind("/a", "/b", true));
        assert_eq!(read("/a:/b:rw"), bind("/a", "/b", false));
        assert_eq!(
            read("/a:/b:z"),
            Err("expected a volume such as \"./data:/data:ro\"; its mode is \"ro\" or \"rw\"".to_owned())
        );
    }

    #[test]
    fn a_source_that_is_no_path_is_a_name() {
        let name = "cache".to_owned();
        assert_eq!(read("cache:/c:ro"), Ok(Volume::Named { name, target: "/c".to_owned(), read_only: true }));
    }

    #[test]
    fn a_source_that_is_neither_path_nor_name_is_refused() {
        for text in ["~/data:/data", "data/sub:/data", ":/data"] {
            assert_eq!(
                read(text),
                Err("expected a volume such as \"./data:/data:ro\"; its first part is a path that begins with \"/\" \
                     or \".\", or a volume's name"
                    .to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_target_is_absolute_and_not_the_root() {
        for text in ["/a:b", "/a:", "/a:/", "/a:/b/.."] {
            assert_eq!(
                read(text),
                Err("expected a volume such as \"./data:/data:ro\"; its second part is an absolute path in the \
                     container, and not \"/\""
                    .to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_volume_has_two_or_three_parts() {
        for text in ["/data", "/a:/b:ro:z", ""] {
            assert_eq!(read(text), Err("expected a volume such as \"./data:/data:ro\"".to_owned()), "{text}");
        }
    }

    #[test]
    fn a_tmpfs_may_have_options() {
        for text in ["/tmp", "/tmp:size=64m,mode=1777"] {
            assert_eq!(tmpfs(&DeValue::String(text.into())), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_tmpfs_is_absolute() {
        for text in ["tmp", "/", "/tmp:", ""] {
            assert!(tmpfs(&DeValue::String(text.into())).is_err(), "{text}");
        }
    }

    #[test]
    fn another_containers_network_is_no_name() {
        assert!(!is_name("container:abc"));
    }

    #[test]
    fn a_path_is_mounted_twice_by_a_volume_and_a_tmpfs() {
        let mut program = Program::new("x");
        assert_eq!(mounted_twice(&program), None);
        program.volumes.push(read("/a:/tmp/").unwrap());
        assert_eq!(mounted_twice(&program), Some("/tmp"));
    }
}
