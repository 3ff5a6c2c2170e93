//! Layers that are meant well, and layers that are not.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::getxattr;
use tar::{EntryType, Header};

use super::*;
use crate::images::StoreErrorKind;

/// A layer in the making: its headers may say anything.
#[derive(Default)]
pub(in crate::images) struct Layer(Vec<u8>);

impl Layer {
    pub(super) fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        target: &str,
        mode: u32,
        content: &[u8],
    ) -> Self {
        self.header(kind, path.as_bytes(), target.as_bytes(), mode, content.len() as u64);
        self.content(content);
        self
    }

    fn header(&mut self, kind: EntryType, path: &[u8], target: &[u8], mode: u32, size: u64) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1234);
        header.set_gid(1235);
        header.set_mtime(1_000_000_000);
        header.set_size(size);
        // Not by `set_path`, which refuses what these tests are about.
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
    }

    fn content(&mut self, content: &[u8]) {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub(in crate::images) fn file(self, path: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, path, "", 0o644, content.as_bytes())
    }

    pub(in crate::images) fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path, "", mode, b"")
    }

    pub(in crate::images) fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, b"")
    }

    pub(in crate::images) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, b"")
    }

    /// Records for the next entry.
    fn pax(mut self, records: &[(&[u8], &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            // The length counts its own digits.
            let length = (1..).find(|n| rest + n.to_string().len() == *n).unwrap();
            write!(text, "{length} ").unwrap();
            text.extend_from_slice(&[key, &b"="[..], value, b"\n"].concat());
        }
        self.header(EntryType::XHeader, b"pax", b"", 0o644, text.len() as u64);
        self.content(&text);
        self
    }

    pub(in crate::images) fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A root file system, and something beside it that nobody may touch.
pub(super) struct Stage {
    folder: tempfile::TempDir,
    rootfs: Rootfs,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::bounded(BOUNDS)
    }

    fn bounded(bounds: Bounds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/secret"), "untouched").unwrap();
        fs::create_dir(folder.path().join("rootfs")).unwrap();
        let rootfs = Rootfs::new(&folder.path().join("rootfs"), bounds).unwrap();
        Self { folder, rootfs }
    }

    pub(super) fn apply(&mut self, layer: Layer) -> Result<(String, End), StoreError> {
        self.rootfs.apply(&*layer.bytes())
    }

    fn applied(mut self, layer: Layer) -> Self {
        self.apply(layer).unwrap();
        self
    }

    /// Applies a layer that must be refused, with an error that names the entry.
    #[track_caller]
    fn refuses(&mut self, layer: Layer, entry: &str, why: &str) {
        let error = self.apply(layer).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid);
        let said = error.to_string();
        assert!(said.contains(&format!("the entry `{entry}`")) && said.contains(why), "{said}");
        self.outside_is_untouched();
    }

    #[track_caller]
    pub(super) fn outside_is_untouched(&self) {
        let outside = self.folder.path().join("outside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "untouched");
        assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(self.folder.path()).unwrap().count(), 2);
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("rootfs").join(path)
    }

    /// What stands at a path: a file's content, a link's target, `/` for a directory.
    fn at(&self, path: &str) -> Option<String> {
        let path = self.path(path);
        let kind = fs::symlink_metadata(&path).ok()?.file_type();
        Some(if kind.is_dir() {
            "/".to_owned()
        } else if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else {
            fs::read_to_string(&path).unwrap()
        })
    }

    /// All paths, in order.
    fn tree(&self) -> Vec<String> {
        fn walk(base: &Path, folder: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                found.push(entry.path().strip_prefix(base).unwrap().display().to_string());
                if entry.file_type().unwrap().is_dir() {
                    walk(base, &entry.path(), found);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.path(""), &self.path(""), &mut found);
        found.sort();
        found
    }

    pub(super) fn finish(self) -> (tempfile::TempDir, u64) {
        let size = self.rootfs.finish().unwrap();
        (self.folder, size)
    }
}

fn layer() -> Layer {
    Layer::default()
}

/// Whom files belong to that an archive gives to 1234:1235.
fn owner() -> (u32, u32) {
    if rustix::process::geteuid().is_root() {
        return (1234, 1235);
    }
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

// === names that lead elsewhere ===

#[test]
fn an_absolute_name_is_refused() {
    let mut stage = Stage::new();
    let outside = stage.folder.path().join("outside/secret").display().to_string();
    stage.refuses(layer().file(&outside, "x"), &outside, "is absolute");
    stage.refuses(layer().directory("/", 0o777), "/", "is absolute");
}

#[test]
fn a_name_that_leads_upward_is_refused() {
    for name in ["../outside/secret", "a/../../outside/secret", "..", "a/..", "./../outside/.wh.secret"] {
        Stage::new().refuses(layer().file(name, "x"), name, "leads upward");
        Stage::new().refuses(layer().directory(name, 0o777), name, "leads upward");
    }
}

#[test]
fn a_file_is_not_written_through_a_link_that_climbs_out() {
    for target in ["../outside", "a/../../outside", "../../../../../../../../../../tmp"] {
        let mut stage = Stage::new().applied(layer().directory("a", 0o755).link("link", target));
        stage.refuses(layer().file("link/new", "x"), "link/new", "leads out of the image");
        stage.refuses(layer().directory("link/new", 0o755), "link/new", "leads out of the image");
        stage.refuses(layer().link("link/new", "x"), "link/new", "leads out of the image");
    }
}

#[test]
fn an_absolute_link_is_followed_as_a_program_in_the_image_would() {
    let mut stage = Stage::new();
    let outside = stage.folder.path().join("outside").display().to_string();
    stage.apply(layer().link("link", &outside).file("link/secret", "inside")).unwrap();
    stage.outside_is_untouched();
    assert_eq!(stage.at(&format!("{}/secret", &outside[1..])).as_deref(), Some("inside"));
}

#[test]
fn a_link_within_the_image_is_followed_for_what_is_below_it() {
    let stage = Stage::new()
        .applied(layer().directory("usr/lib", 0o755).link("lib", "usr/lib").link("l", "usr/../lib/"))
        .applied(layer().file("lib/a", "1").file("l/b", "2"));
    assert_eq!(stage.at("usr/lib/a").as_deref(), Some("1"));
    assert_eq!(stage.at("usr/lib/b").as_deref(), Some("2"));
    assert_eq!(stage.at("lib").as_deref(), Some("-> usr/lib"));
}

#[test]
fn links_in_a_circle_are_refused() {
    let mut stage = Stage::new().applied(layer().link("a", "b").link("b", "a"));
    stage.refuses(layer().file("a/x", ""), "a/x", "too many symbolic links");
}

#[test]
fn a_file_replaces_a_link_and_is_not_written_through_it() {
    let stage = Stage::new().applied(layer().link("link", "../outside/secret").file("link", "new"));
    assert_eq!(stage.at("link").as_deref(), Some("new"));
    stage.outside_is_untouched();
}

#[test]
fn a_directory_replaces_a_link() {
    let stage =
        Stage::new().applied(layer().link("link", "../outside").directory("link", 0o755).file("link/x", "1"));
    assert_eq!(stage.at("link/x").as_deref(), Some("1"));
    stage.outside_is_untouched();
}

#[test]
fn a_hard_link_to_the_outside_is_refused() {
    let mut stage = Stage::new();
    let outside = stage.folder.path().join("outside/secret").display().to_string();
    stage.refuses(layer().hard_link("h", &outside), "h", "which is absolute");
    stage.refuses(layer().hard_link("h", "../outside/secret"), "h", "which leads upward");
    let through = layer().link("link", "../outside").hard_link("h", "link/secret");
    stage.refuses(through, "h", "which leads out of the image");
    assert_eq!(stage.at("h"), None);
}

#[test]
fn a_hard_link_to_a_symbolic_link_links_the_link_itself() {
    let stage = Stage::new()
        .applied(layer().link("link", "../outside/secret").hard_link("h", "link").file("h", "new"));
    assert_eq!(stage.at("link").as_deref(), Some("-> ../outside/secret"));
    assert_eq!(stage.at("h").as_deref(), Some("new"));
    stage.outside_is_untouched();
}

#[test]
fn a_hard_link_to_nothing_to_a_directory_or_to_itself_is_refused() {
    let mut stage = Stage::new().applied(layer().directory("d", 0o755).file("f", "1"));
    stage.refuses(layer().hard_link("h", "none"), "h", "which is not there");
    stage.refuses(layer().hard_link("h", "d"), "h", "which is a directory");
    stage.refuses(layer().hard_link("f", "./f"), "f", "which is itself");
    assert_eq!(stage.at("f").as_deref(), Some("1"));
}

#[test]
fn a_whiteout_through_a_link_that_climbs_out_is_refused() {
    let mut stage = Stage::new().applied(layer().link("link", "../outside"));
    stage.refuses(layer().file("link/.wh.secret", ""), "link/.wh.secret", "leads out of the image");
    stage.refuses(layer().file("link/.wh..wh..opq", ""), "link/.wh..wh..opq", "leads out of the image");
}

#[test]
fn a_whiteout_removes_a_link_and_not_what_it_points_at() {
    let stage = Stage::new()
        .applied(layer().link("link", "../outside").directory("d", 0o755).link("d/l", "../../outside"))
        .applied(layer().file(".wh.link", "").file(".wh.d", ""));
    assert_eq!(stage.tree(), [""; 0]);
    stage.outside_is_untouched();
}

#[test]
fn a_whiteout_of_no_name_is_refused() {
    let mut stage = Stage::new().applied(layer().directory("d", 0o755));
    for name in ["d/.wh.", "d/.wh..", "d/.wh..."] {
        stage.refuses(layer().file(name, ""), name, "is a whiteout of no name");
    }
    assert_eq!(stage.tree(), ["d"]);
}

#[test]
fn the_root_stays_a_directory() {
    let mut stage = Stage::new();
    stage.refuses(layer().link("./", "../outside"), "./", "would replace the root");
    stage.refuses(layer().file(".", ""), ".", "would replace the root");
}

// === layers over layers ===

#[test]
fn a_whiteout_takes_what_lower_layers_have() {
    let stage = Stage::new()
        .applied(layer().file("d/a", "1").file("d/b/c", "1").file("e", "1"))
        .applied(layer().file("d/.wh.b", "").file(".wh.e", "").file(".wh.none", "").file("none/.wh.x", ""));
    assert_eq!(stage.tree(), ["d", "d/a"]);
}

#[test]
fn a_whiteout_spares_what_its_own_layer_has_made_wherever_it_stands() {
    let lower = || layer().file("d/old", "1").file("f", "1");
    let whiteouts = |layer: Layer| layer.file(".wh.d", "").file(".wh.f", "");
    let additions = |layer: Layer| layer.file("d/new", "2").file("f", "2");
    for upper in [whiteouts(additions(layer())), additions(whiteouts(layer()))] {
        let stage = Stage::new().applied(lower()).applied(upper);
        assert_eq!(stage.tree(), ["d", "d/new", "f"]);
        assert_eq!(stage.at("f").as_deref(), Some("2"));
    }
}

#[test]
fn an_opaque_directory_hides_lower_layers_only_wherever_its_mark_stands() {
    let lower =
        || layer().file("d/old", "1").file("d/sub/old", "1").file("d/gone/old", "1").file("other", "1");
    let mark = |layer: Layer| layer.file("d/.wh..wh..opq", "");
    let additions = |layer: Layer| layer.file("d/new", "2").file("d/sub/new", "2");
    for upper in [mark(additions(layer())), additions(mark(layer()))] {
        let stage = Stage::new().applied(lower()).applied(upper);
        assert_eq!(stage.tree(), ["d", "d/new", "d/sub", "d/sub/new", "other"]);
    }
}

#[test]
fn a_whiteout_through_a_link_within_the_image_spares_its_own_layer() {
    let stage = Stage::new()
        .applied(layer().file("usr/lib/a", "1").file("usr/lib/b", "1").link("lib", "usr/lib"))
        .applied(layer().file("usr/lib/a", "2").file("lib/.wh.a", "").file("lib/.wh.b", ""));
    assert_eq!(stage.at("usr/lib/a").as_deref(), Some("2"));
    assert_eq!(stage.at("usr/lib/b"), None);
}

#[test]
fn bookkeeping_of_aufs_is_left_out() {
    let stage = Stage::new().applied(layer().file(".wh..wh.aufs", "x").directory(".wh..wh.plnk", 0o700));
    assert_eq!(stage.tree(), [""; 0]);
}

#[test]
fn an_upper_layer_replaces_files_by_directories_and_directories_by_files() {
    let stage = Stage::new()
        .applied(layer().file("a/x/y", "1").file("b", "1"))
        .applied(layer().file("a", "2").directory("b", 0o755).file("b/x", "2"));
    assert_eq!(stage.tree(), ["a", "b", "b/x"]);
    assert_eq!(stage.at("a").as_deref(), Some("2"));
}

#[test]
fn an_entry_below_a_file_is_refused() {
    let error = Stage::new().apply(layer().file("a", "1").file("a/b/c", "2")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(error.to_string().contains("`a/b` is needed as a directory"), "{error}");
}

#[test]
fn a_hard_link_reaches_into_a_lower_layer() {
    let stage = Stage::new().applied(layer().file("a", "1")).applied(layer().hard_link("d/b", "./a"));
    assert_eq!(stage.at("d/b").as_deref(), Some("1"));
    assert_eq!(fs::metadata(stage.path("a")).unwrap().ino(), fs::metadata(stage.path("d/b")).unwrap().ino());
}

#[test]
fn a_file_that_is_replaced_leaves_its_hard_links_as_they_were() {
    let stage =
        Stage::new().applied(layer().file("a", "1").hard_link("b", "a")).applied(layer().file("a", "2"));
    assert_eq!((stage.at("a").as_deref(), stage.at("b").as_deref()), (Some("2"), Some("1")));
}

// === what is kept of a file ===

#[test]
fn modes_owners_and_times_are_kept() {
    let modes = [0o644, 0o4755, 0o2755, 0o600, 0o000, 0o777];
    let mut stage = Stage::new();
    for mode in modes {
        stage.apply(layer().entry(EntryType::Regular, &format!("f{mode:o}"), "", mode, b"x")).unwrap();
    }
    // Nobody may write into the outer one, nor enter the inner one; the sticky bit is kept.
    let closed = layer().directory("d", 0o555).directory("d/e", 0o000).directory("t", 0o1777);
    stage.apply(closed.file("d/e/f", "x").link("l", "f600")).unwrap();
    let (folder, _) = stage.finish();
    let rootfs = folder.path().join("rootfs");
    let check = |path: &str, mode: u32| {
        let found = fs::symlink_metadata(rootfs.join(path)).unwrap();
        assert_eq!(found.mode() & 0o7777, mode, "{path}");
        assert_eq!((found.uid(), found.gid()), owner(), "{path}");
        assert_eq!(found.mtime(), 1_000_000_000, "{path}");
    };
    for mode in modes {
        check(&format!("f{mode:o}"), mode);
    }
    for (path, mode) in [("d", 0o555), ("d/e", 0o000), ("t", 0o1777), ("l", 0o777)] {
        check(path, mode);
    }
    let base = fs::File::open(&rootfs).unwrap();
    super::super::removal::remove_tree(&base, b"d").unwrap();
    assert!(!rootfs.join("d").exists());
}

#[test]
fn the_root_directory_gets_what_the_archive_says_of_it() {
    let stage = Stage::new().applied(layer().directory("./", 0o750).file("./a", "1"));
    let (folder, size) = stage.finish();
    assert_eq!(fs::metadata(folder.path().join("rootfs")).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(size, 1);
}

#[test]
fn long_names_of_both_kinds_are_read() {
    let name = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let mut gnu = layer();
    gnu.header(EntryType::GNULongName, b"././@LongLink", b"", 0, name.len() as u64 + 1);
    gnu.content(format!("{name}\0").as_bytes());
    let target = "t".repeat(150);
    gnu.header(EntryType::GNULongLink, b"././@LongLink", b"", 0, target.len() as u64 + 1);
    gnu.content(format!("{target}\0").as_bytes());
    let stage = Stage::new().applied(gnu.link("short", "short"));
    assert_eq!(stage.at(&name), Some(format!("-> {target}")));

    let records: [(&[u8], &[u8]); 2] = [(b"path", name.as_bytes()), (b"linkpath", target.as_bytes())];
    let stage = Stage::new().applied(layer().pax(&records).link("short", "short"));
    assert_eq!(stage.at(&name), Some(format!("-> {target}")));
}

#[test]
fn names_that_are_no_text_and_binary_attributes_are_kept() {
    let records: [(&[u8], &[u8]); 3] =
        [(b"SCHILY.xattr.user.a", b"\n\n\0=1"), (b"path", b"\xff\xfe"), (b"mtime", b"12.5")];
    let stage = Stage::new().applied(layer().pax(&records).file("short", "1"));
    let path = stage.path("").join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "1");
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.mtime(), found.mtime_nsec()), (12, 500_000_000));
    let mut value = [0; 16];
    let length = getxattr(&path, "user.a", &mut value).unwrap();
    assert_eq!(&value[..length], b"\n\n\0=1");
}

#[test]
fn of_extended_attributes_only_the_users_are_kept() {
    let records: [(&[u8], &[u8]); 4] = [
        (b"SCHILY.xattr.user.kept", b"1"),
        (b"SCHILY.xattr.user.overlay.opaque", b"y"),
        (b"SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        (b"SCHILY.xattr.trusted.overlay.redirect", b"/"),
    ];
    let stage = Stage::new().applied(
        layer()
            .pax(&records)
            .file("f", "1")
            .pax(&records)
            .directory("d", 0o755)
            .pax(&records)
            .directory("./", 0o755),
    );
    for path in ["f", "d", ""] {
        let mut names = [0; 256];
        let length = rustix::fs::listxattr(stage.path(path), &mut names).unwrap();
        let names = String::from_utf8_lossy(&names[..length]).into_owned();
        let names: Vec<_> = names.split_terminator('\0').filter(|name| *name != "security.selinux").collect();
        assert_eq!(names, ["user.kept"], "{path}");
    }
}

#[test]
fn a_fifo_is_made_and_a_device_node_left_out() {
    let stage = Stage::new().applied(layer().file("c", "lower")).applied(
        layer()
            .entry(EntryType::Fifo, "p", "", 0o620, b"")
            .entry(EntryType::Char, "c", "", 0o666, b"")
            .entry(EntryType::Block, "b", "", 0o666, b""),
    );
    let fifo = fs::symlink_metadata(stage.path("p")).unwrap();
    assert!(fifo.file_type().is_fifo());
    assert_eq!((fifo.mode() & 0o7777, (fifo.uid(), fifo.gid())), (0o620, owner()));
    // What the device hides is gone too.
    assert_eq!(stage.tree(), ["p"]);
}

#[test]
fn an_entry_of_an_unknown_kind_is_refused() {
    let unknown = layer().entry(EntryType::new(b'Z'), "z", "", 0o644, b"");
    Stage::new().refuses(unknown, "z", "of a kind that is not known");
    let sparse = layer().entry(EntryType::GNUSparse, "s", "", 0o644, b"");
    Stage::new().refuses(sparse, "s", "sparse");
}

#[test]
fn a_name_that_is_too_long_is_refused() {
    let name = "d/".repeat(2047) + "file";
    let long = layer().pax(&[(b"path", name.as_bytes())]).file("short", "");
    let error = Stage::new().apply(long).unwrap_err();
    assert!(error.to_string().contains("is longer than a path may be"), "{error}");
}

#[test]
fn the_deepest_tree_that_a_name_can_say_is_made_and_removed() {
    let name = "d/".repeat(2046) + "f";
    let stage = Stage::new()
        .applied(layer().pax(&[(b"path", name.as_bytes())]).file("short", "1"))
        .applied(layer().file(".wh.d", ""));
    assert_eq!(stage.tree(), [""; 0]);
}

// === archives that are broken, and bombs ===

#[test]
fn an_archive_that_is_cut_is_refused() {
    let whole = layer().file("a", &"x".repeat(1000)).bytes();
    for length in [1, 511, 513, 1024, 1535] {
        let error = Stage::new().rootfs.apply(&whole[..length]).unwrap_err();
        assert!(crate::reason::Reason(&error).to_string().contains("cut short"), "{length}: {error}");
    }
    // Behind a whole entry it may be the end; whoever has a digest knows.
    assert_eq!(Stage::new().rootfs.apply(&whole[..1536]).unwrap().1, End::Unmarked);
    assert_eq!(Stage::new().rootfs.apply(&*whole).unwrap().1, End::Marked);
}

#[test]
fn what_is_no_archive_is_refused() {
    let error = Stage::new().rootfs.apply(&[b'x'; 2048][..]).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(Stage::new().apply(layer().pax(&[]).file("a", "")).is_ok());
    let mut malformed = layer();
    malformed.header(EntryType::XHeader, b"pax", b"", 0, 8);
    malformed.content(b"99 a=b\n\n");
    assert!(Stage::new().apply(malformed.file("a", "")).is_err());
}

#[test]
fn an_extended_header_of_any_size_is_not_taken_into_memory() {
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let mut bomb = layer();
        bomb.header(kind, b"bomb", b"", 0, 8 << 30);
        let error = Stage::new().rootfs.apply(io::Read::chain(&*bomb.0, io::repeat(b'a'))).unwrap_err();
        assert!(crate::reason::Reason(&error).to_string().contains("extended header"), "{error}");
    }
}

#[test]
fn what_is_larger_than_an_image_may_be_is_refused() {
    let bounds = Bounds { entries: 2, bytes: 8 << 10, names: 8 };
    let said = |layer: Layer| {
        let error = Stage::bounded(bounds).apply(layer).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid);
        crate::reason::Reason(&error).to_string()
    };
    assert!(said(layer().file("a", "").file("b", "").file("c", "")).contains("more files"));
    assert!(said(layer().file("a", &"x".repeat(9 << 10))).contains("larger than an image may be"));
    assert!(said(layer().directory("directory", 0o755)).contains("more directories"));
    // All layers count together.
    let mut stage = Stage::bounded(bounds);
    stage.apply(layer().file("a", "").file("b", "")).unwrap();
    stage.apply(layer().file("c", "")).unwrap_err();
}

// === mount points ===

#[test]
fn what_an_engine_mounts_over_is_made_where_it_is_missing() {
    let mut stage = Stage::new();
    stage.rootfs.make_mount_points(["/srv/app", "/data/", "", "/a/../b"]).unwrap();
    let (folder, _) = stage.finish();
    let rootfs = folder.path().join("rootfs");
    for path in ["proc", "sys", "dev", "etc", "srv/app", "data", "b"] {
        assert!(rootfs.join(path).is_dir(), "{path}");
    }
    assert_eq!(fs::metadata(rootfs.join("tmp")).unwrap().mode() & 0o7777, 0o1777);
    for path in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
        assert_eq!(fs::metadata(rootfs.join(path)).unwrap().len(), 0);
    }
    assert!(!rootfs.join("a").exists());
}

#[test]
fn what_is_there_already_is_not_touched_by_mount_points() {
    let mut stage = Stage::new().applied(
        layer()
            .directory("tmp", 0o700)
            .file("proc", "file")
            .file("etc/hosts", "1")
            .link("etc/resolv.conf", "../../outside/new"),
    );
    stage.rootfs.make_mount_points(["/proc"]).unwrap();
    stage.outside_is_untouched();
    assert_eq!(stage.at("proc").as_deref(), Some("file"));
    assert_eq!(stage.at("etc/hosts").as_deref(), Some("1"));
    assert_eq!(stage.at("etc/resolv.conf").as_deref(), Some("-> ../../outside/new"));
    let (folder, _) = stage.finish();
    assert_eq!(fs::metadata(folder.path().join("rootfs/tmp")).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn no_mount_point_is_made_through_a_link_that_climbs_out() {
    let mut stage = Stage::new().applied(layer().link("etc", "../outside").link("srv", "../outside"));
    stage.rootfs.make_mount_points([]).unwrap();
    stage.outside_is_untouched();
    let error = stage.rootfs.make_mount_points(["/srv/app"]).unwrap_err();
    assert!(error.to_string().contains("`/srv/app` leads out of the image"), "{error}");
    stage.outside_is_untouched();
}
