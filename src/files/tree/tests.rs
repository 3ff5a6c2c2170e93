use std::mem::MaybeUninit;
use std::os::unix::fs::{chown, symlink};
use std::sync::Arc;

use proptest::prelude::*;
use rustix::fs::{Mode, inotify, mkfifoat};
use tempfile::TempDir;

use super::super::Place;
use super::*;

/// A directory with `cgi` in it, which is served, and `outside` beside that.
fn place() -> (TempDir, Tree) {
    let outer = tempfile::tempdir().unwrap();
    let served = outer.path().join("cgi");
    fs::create_dir_all(served.join("sub/deep")).unwrap();
    for file in
        ["hello.cgi", "sub/x.pl", "sub/index.cgi", "sub/deep/y", ".hidden", "x.cgi~", "z.PHP.BAK", "#a#"]
    {
        fs::write(served.join(file), "").unwrap();
    }
    fs::create_dir(served.join(".git")).unwrap();
    fs::write(served.join(".git/config"), "").unwrap();
    fs::create_dir(outer.path().join("outside")).unwrap();
    fs::write(outer.path().join("outside/secret"), "").unwrap();
    let tree = Tree::new(served);
    (outer, tree)
}

/// Links to what somebody else owns: for root, another user's; for anybody else, root's.
fn foreign(outer: &TempDir) -> [(PathBuf, &'static str); 3] {
    if !rustix::process::geteuid().is_root() {
        return [
            ("/etc".into(), "foreign"),
            ("/etc/passwd".into(), "foreign-file"),
            ("/etc/none".into(), "foreign-none"),
        ];
    }
    let place = outer.path().join("foreign");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("secret"), "").unwrap();
    for path in [place.clone(), place.join("secret")] {
        chown(path, Some(1234), None).unwrap();
    }
    [(place.clone(), "foreign"), (place.join("secret"), "foreign-file"), (place.join("none"), "foreign-none")]
}

fn file(path: &str, rest: &str) -> Found {
    Found::File { path: path.to_owned(), rest: rest.as_bytes().to_vec() }
}

/// The status that a server would have for it: 0 where it is found.
fn status(tree: &Tree, path: &str) -> u16 {
    match tree.find(path.as_bytes()) {
        Ok(_) => 0,
        Err(NotFound::Missing { .. }) => 404,
        Err(NotFound::Forbidden { .. }) => 403,
        Err(NotFound::Failed { .. } | NotFound::Unusable { .. }) => 502,
        Err(NotFound::Later) => 504,
    }
}

#[test]
fn a_path_is_walked_until_a_file_is_met() {
    let (_outer, tree) = place();
    for (path, found) in [
        ("/hello.cgi", file("/hello.cgi", "")),
        ("/hello.cgi/", file("/hello.cgi", "/")),
        ("/hello.cgi/a//b", file("/hello.cgi", "/a//b")),
        ("//sub///x.pl//..more", file("/sub/x.pl", "//..more")),
        ("/sub/deep/y/.hidden/~", file("/sub/deep/y", "/.hidden/~")),
    ] {
        assert_eq!(tree.find(path.as_bytes()).unwrap(), found, "{path}");
    }
    assert_eq!(
        tree.find(b"/hello.cgi/\xff").unwrap(),
        Found::File { path: "/hello.cgi".into(), rest: b"/\xff".into() }
    );
}

#[test]
fn a_directory_is_told_with_its_slash() {
    let (_outer, tree) = place();
    let directory = |path: &str, has_slash| Found::Directory { path: path.to_owned(), has_slash };
    for (path, found) in [
        ("", directory("", false)),
        ("/", directory("", true)),
        ("/sub", directory("/sub", false)),
        ("/sub/deep//", directory("/sub/deep", true)),
    ] {
        assert_eq!(tree.find(path.as_bytes()).unwrap(), found, "{path}");
    }
    let place = Place::Tree(Arc::new(tree));
    let index = |path, names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let found = place.index(path, &names, Patience::Any).unwrap();
        found.map(|(found, _)| found)
    };
    assert_eq!(index("/sub", &["none.cgi", "index.cgi"]), Some(file("/sub/index.cgi", "")));
    assert_eq!(index("", &["index.cgi", "sub"]), None);
}

#[test]
fn what_is_hidden_or_a_copy_is_not_there() {
    let (_outer, tree) = place();
    for path in ["/.hidden", "/.git/config", "/x.cgi~", "/z.PHP.BAK", "/#a#", "/none", "/hello.cgi.none/x"] {
        assert_eq!(status(&tree, path), 404, "{path}");
    }
    assert!(matches!(tree.find(b"/\xff.cgi"), Err(NotFound::Missing { .. })));
}

#[test]
fn links_lead_within_the_directory_or_to_what_their_owner_owns() {
    let (outer, tree) = place();
    let served = &tree.directory;
    for (target, name) in [
        ("hello.cgi", "inside"),
        ("sub", "folder"),
        (served.join("hello.cgi").to_str().unwrap(), "absolute"),
        ("../outside/secret", "out"),
        ("../outside", "outfolder"),
        ("nowhere", "dangling"),
        ("loop", "loop"),
        ("/proc/self/root/etc/passwd", "magic"),
    ] {
        symlink(target, served.join(name)).unwrap();
    }
    assert_eq!(tree.find(b"/inside/x").unwrap(), file("/inside", "/x"));
    assert_eq!(tree.find(b"/folder/x.pl").unwrap(), file("/folder/x.pl", ""));
    assert_eq!(tree.find(b"/absolute").unwrap(), file("/absolute", ""));
    // Ours, and so is what they lead to.
    assert_eq!(tree.find(b"/out").unwrap(), file("/out", ""));
    assert_eq!(tree.find(b"/outfolder/secret").unwrap(), file("/outfolder/secret", ""));
    assert_eq!(
        (status(&tree, "/dangling"), status(&tree, "/loop"), status(&tree, "/magic")),
        (404, 403, 403)
    );
    assert_eq!(status(&tree, "/outfolder/none"), 404);
    for (target, name) in foreign(&outer) {
        symlink(target, served.join(name)).unwrap();
    }
    for path in ["/foreign", "/foreign/secret", "/foreign/none", "/foreign-file", "/foreign-none"] {
        assert_eq!(status(&tree, path), 403, "{path}");
    }
}

#[test]
fn what_is_neither_file_nor_directory_is_forbidden() {
    let (_outer, tree) = place();
    mkfifoat(CWD, tree.directory.join("fifo"), Mode::from_raw_mode(0o666)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.directory.join("socket")).unwrap();
    for path in ["/fifo", "/fifo/x", "/socket"] {
        assert_eq!(status(&tree, path), 403, "{path}");
    }
    assert_eq!(status(&tree, &format!("/{}", "x".repeat(256))), 403);
}

#[test]
fn a_path_that_the_kernel_would_not_take_is_forbidden() {
    let (_outer, tree) = place();
    let name = "d".repeat(200);
    let mut at = rustix::fs::open(&tree.directory, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..25 {
        rustix::fs::mkdirat(&at, &*name, Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, &*name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let deep = |levels| format!("/{name}").repeat(levels);
    assert_eq!(status(&tree, &deep(15)), 0);
    let error = tree.find(deep(25).as_bytes()).unwrap_err();
    assert!(matches!(error, NotFound::Forbidden { .. }), "{error}");
    assert!(error.to_string().len() < 200, "{error}");
    assert_eq!(tree.list(&deep(15), |_| false).unwrap().len(), 1);
}

#[test]
fn what_is_at_hand_on_a_disk_of_ones_own_needs_no_patience() {
    let (_outer, tree) = place();
    let quick = |path: &str| tree.look(path.as_bytes(), Patience::None).map(|(found, _)| found);
    assert!(matches!(quick("/hello.cgi"), Err(NotFound::Later)), "nobody has looked what it is on");
    tree.find(b"/").unwrap();
    let is_local = tree.local.load(Ordering::Relaxed) != 0;
    assert!(is_local, "the tests' directory is on a disk of this machine");
    assert_eq!(quick("/sub/x.pl/y").unwrap(), file("/sub/x.pl", "/y"));
    // What nobody has asked for of late, a disk is asked for.
    assert!(matches!(quick("/none"), Err(NotFound::Later)));
    tree.find(b"/none").unwrap_err();
    assert!(matches!(quick("/none"), Err(NotFound::Missing { .. })));
    // Where a link leads, nobody can say beforehand.
    symlink("hello.cgi", tree.directory.join("link")).unwrap();
    assert!(matches!(quick("/link"), Err(NotFound::Later)));
    let system = Tree::new("/proc");
    system.find(b"/version").unwrap();
    assert!(matches!(system.look(b"/version", Patience::None), Err(NotFound::Later)), "it is no disk");
}

#[test]
fn a_file_that_is_exchanged_is_found_by_its_link_all_the_time() {
    let (_outer, tree) = place();
    symlink("hello.cgi", tree.directory.join("link")).unwrap();
    let opened = openat(CWD, tree.directory.join("hello.cgi"), LOOK, Mode::empty()).unwrap();
    assert_eq!(real_path(opened.as_fd()).unwrap(), tree.directory.join("hello.cgi"));
    fs::rename(tree.directory.join("sub/x.pl"), tree.directory.join("hello.cgi")).unwrap();
    assert!(real_path(opened.as_fd()).is_err(), "it has no name any more");
    let directory = tree.directory.clone();
    let exchanging = std::thread::spawn(move || {
        for _ in 0..3000 {
            fs::write(directory.join("new"), "").unwrap();
            fs::rename(directory.join("new"), directory.join("hello.cgi")).unwrap();
        }
    });
    while !exchanging.is_finished() {
        let (_, candidate) = tree.look(b"/link", Patience::Any).unwrap();
        let candidate = candidate.unwrap();
        assert!(candidate.aliases().all(|name| name == "hello.cgi"), "{candidate:?}");
    }
    exchanging.join().unwrap();
}

#[test]
fn in_a_root_links_lead_to_where_they_lead_inside() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    for folder in ["usr/lib/cgi-bin", "usr/share/app", "etc/alternatives"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for file in ["usr/lib/cgi-bin/x.cgi", "usr/share/app/y.pl", "usr/share/app/z.bak", "etc/passwd"] {
        fs::write(root.join(file), "").unwrap();
    }
    fs::write(outer.path().join("secret"), "").unwrap();
    for (target, name) in [
        ("/usr/lib/cgi-bin", "srv"),
        ("/etc/alternatives/y", "usr/lib/cgi-bin/y.pl"),
        ("/usr/share/app/y.pl", "etc/alternatives/y"),
        ("../../share/app", "usr/lib/cgi-bin/app"),
        ("../../../../../../etc/passwd", "usr/lib/cgi-bin/above"),
        ("/../secret", "usr/lib/cgi-bin/secret"),
        ("/usr/share/app/z.bak", "usr/lib/cgi-bin/z.cgi"),
        ("none", "usr/lib/cgi-bin/dangling"),
        ("loop", "usr/lib/cgi-bin/loop"),
    ] {
        symlink(target, root.join(name)).unwrap();
    }
    for directory in ["/usr/lib/cgi-bin", "/srv"] {
        let tree = Tree::within(&root, directory);
        for (path, found) in [
            ("/x.cgi/i", file("/x.cgi", "/i")),
            ("/y.pl", file("/y.pl", "")),
            ("/app/y.pl/i", file("/app/y.pl", "/i")),
            ("/above", file("/above", "")),
        ] {
            assert_eq!(tree.find(path.as_bytes()).unwrap(), found, "{path}");
        }
        for (path, code) in [("/secret", 404), ("/dangling", 404), ("/loop", 403), ("/z.cgi", 403)] {
            assert_eq!(status(&tree, path), code, "{path}");
        }
        let same = tree.look(b"/x.cgi", Patience::None);
        assert!(matches!(same, Err(NotFound::Later)));
    }
    assert_eq!(status(&Tree::within(&root, "/none"), "/x"), 502);
}

#[test]
fn a_link_tells_what_it_leads_over() {
    let (outer, tree) = place();
    for (target, name) in [
        ("sub/../first.pl", "page.html"),
        ("sub/second.sh", "first.pl"),
        ("../hello.cgi", "sub/second.sh"),
        ("sub/", "folder"),
    ] {
        symlink(target, tree.directory.join(name)).unwrap();
    }
    let aliases = |path: &str| {
        let (_, candidate) = tree.look(path.as_bytes(), Patience::Any).unwrap();
        candidate.unwrap().aliases.join(" ")
    };
    assert_eq!(aliases("/page.html"), "first.pl second.sh hello.cgi hello.cgi");
    assert_eq!(aliases("/sub/second.sh"), "hello.cgi hello.cgi");
    assert_eq!(aliases("/folder/x.pl"), "");
    symlink("../outside/secret", tree.directory.join("kept.bak")).unwrap();
    symlink("kept.bak", tree.directory.join("kept")).unwrap();
    assert_eq!(status(&tree, "/kept"), 403, "{outer:?}");
}

#[test]
fn what_has_run_out_may_be_had_again() {
    for (errno, is_exhaustion) in
        [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::IO, false), (Errno::STALE, false)]
    {
        let error = refused("/x", errno);
        assert_eq!(error.is_exhaustion(), is_exhaustion, "{error}");
        assert!(matches!(error, NotFound::Failed { .. }));
    }
    assert!(!refused("/x", Errno::NOENT).is_exhaustion());
}

#[test]
fn a_directory_that_is_not_there_is_told() {
    let (outer, _) = place();
    let error = Tree::new(outer.path().join("none")).find(b"/x").unwrap_err();
    assert_eq!(error.to_string(), format!("the directory {}/none cannot be opened", outer.path().display()));
}

/// Names and parts of names that have led servers astray.
fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
        Just("sub".to_owned()),
        Just("hello.cgi".to_owned()),
        Just("out".to_owned()),
        Just("up".to_owned()),
        Just("..;".to_owned()),
        Just("..\\".to_owned()),
        Just("outside".to_owned()),
        Just("secret".to_owned()),
        "[a-z./\\\\~]{0,6}",
    ]
}

proptest! {
    #[test]
    fn nothing_outside_is_ever_found_or_opened(segments in prop::collection::vec(segment(), 0..8)) {
        let (outer, tree) = place();
        let [(place, _), (file, _), _] = foreign(&outer);
        symlink(&place, tree.directory.join("out")).unwrap();
        symlink(&file, tree.directory.join("sub/secret")).unwrap();
        symlink("..", tree.directory.join("sub/up")).unwrap();
        // Ours alone: of what is everybody's, others open files too.
        let watcher = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        if place.starts_with(outer.path()) {
            inotify::add_watch(&watcher, &place, inotify::WatchFlags::OPEN).unwrap();
        }
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        if let Ok((Found::File { path: found, .. }, Some(candidate))) = tree.look(path.as_bytes(), Patience::Any) {
            let inside = fs::canonicalize(&tree.directory).unwrap();
            let real = fs::canonicalize(format!("{}{found}", tree.directory.display())).unwrap();
            prop_assert!(real.starts_with(&inside), "{path} is {}", real.display());
            let opened = candidate.open().unwrap();
            prop_assert_eq!(real_path(opened.as_fd()).unwrap(), real);
        }
        // Who has no patience finds the same, or has to come again.
        let outcome = |patience| tree.look(path.as_bytes(), patience).map(|(found, _)| found).map_err(|error| error.to_string());
        let (patient, quick) = (outcome(Patience::Any), outcome(Patience::None));
        prop_assert!(quick == patient || quick == Err(NotFound::Later.to_string()), "{quick:?}, not {patient:?}");
        let mut events = [MaybeUninit::uninit(); 4096];
        let seen = inotify::Reader::new(&watcher, &mut events).next().is_ok();
        prop_assert!(!seen, "{} was opened", path);
    }
}
