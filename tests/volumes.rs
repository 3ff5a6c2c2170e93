//! Volumes: what a container sees of this machine is what is there now, and the deeper mount is the one that is seen.
//!
//! On both engines: with a container for each request, with some that wait, and with one that all requests share.

mod common;

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::embedded::{Store, store_with};
use common::{Done, PATIENCE, Server, Under, wait_until};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

/// Directories whose `which` says their names.
fn releases(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("which"), name).unwrap();
    }
    folder
}

/// Makes a link lead elsewhere, as `ln -sfn` does: at no moment is there none.
fn switch(link: &Path, target: &str) {
    let new = link.with_extension("new");
    symlink(target, &new).unwrap();
    fs::rename(new, link).unwrap();
}

/// A server, and what it needs.
struct Served {
    server: Server,
    _store: Option<Store>,
}

impl Deref for Served {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// The probe on the embedded engine.
fn embedded(more: &str) -> Served {
    let store = store_with(&[("test/probe", "probe.rs", &["/app/probe"])]);
    let server = store.serve(&format!("[[route]]\npath = \"/\"\nimage = \"test/probe\"\n{more}\n"));
    Served { server, _store: Some(store) }
}

/// The same on Docker, where it has nothing beside it.
fn docker(more: &str) -> Served {
    let config = format!(
        "engine = \"docker\"\n[[route]]\npath = \"/\"\nimage = \"IMAGE\"\npull = \"never\"\n{more}\n"
    );
    Served { server: Server::start_under(Under::Docker, &config, |_| {}), _store: None }
}

fn which(server: &Server) -> String {
    let response = server.get("/?text&file=/data/which");
    assert_eq!(response.status, 200, "{}{}", response.text(), server.log());
    response.text().trim_end().to_owned()
}

/// Switches a volume's source again and again, while four clients ask. Each answer is whole, and is what was there at some
/// time from the request's beginning to its end.
#[track_caller]
fn is_seen_as_it_is(server: &Server, times: usize, mut switch_to: impl FnMut(usize) -> &'static str) {
    // Which switch has returned, and which has begun.
    let (done, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut names = vec![switch_to(0)];
    assert_eq!(which(server), names[0]);
    let (answered, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let names = std::thread::scope(|scope| {
        let ask = || {
            let mut connection = server.connect();
            let mut seen = Vec::new();
            while done.load(Ordering::SeqCst) < times && !over.load(Ordering::Relaxed) {
                let first = done.load(Ordering::SeqCst);
                let response = connection.get("/?text&file=/data/which");
                let last = begun.load(Ordering::SeqCst);
                assert_eq!(response.status, 200, "{}{}", response.text(), server.log());
                assert!(response.complete);
                seen.push((first, last, response.text().trim_end().to_owned()));
                answered.fetch_add(1, Ordering::SeqCst);
            }
            seen
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let _over = Done(&over);
        for number in 1..=times {
            let before = answered.load(Ordering::SeqCst);
            begun.store(number, Ordering::SeqCst);
            names.push(switch_to(number));
            done.store(number, Ordering::SeqCst);
            if number < times {
                wait_until("some are answered", PATIENCE, || {
                    answered.load(Ordering::SeqCst) >= before + 8
                        || clients.iter().any(std::thread::ScopedJoinHandle::is_finished)
                });
            }
        }
        for client in clients {
            for (first, last, name) in client.join().unwrap() {
                let possible = &names[first..=last];
                assert!(possible.contains(&&*name), "{name}, where there was {possible:?}");
            }
        }
        names
    });
    assert_eq!(which(server), *names.last().unwrap());
}

/// A link that is switched, a directory that is exchanged for another, and one that is not there any more.
#[track_caller]
fn volumes_are_as_they_are_now(times: usize, serve: impl Fn(&str) -> Served) {
    let folder = releases(&["r1", "r2", "r3"]);
    let link = folder.path().join("cur");
    symlink("r1", &link).unwrap();
    let server = serve(&format!("volumes = [\"{}:/data:ro\"]", link.display()));
    is_seen_as_it_is(&server, times, |number| {
        let name = ["r1", "r2", "r3"][number % 3];
        switch(&link, name);
        name
    });
    switch(&link, "gone");
    let response = server.get("/?text");
    assert_eq!(response.status, 502, "{}", response.text());
    server.wait_for_log_of(response.id(), link.to_str().unwrap());
    switch(&link, "r1");
    wait_until("it is served again", PATIENCE, || server.get("/?text").status == 200);
    assert_eq!(which(&server), "r1");
    drop(server);

    let folder = releases(&["a", "b"]);
    let (now, other) = (folder.path().join("a"), folder.path().join("b"));
    let server = serve(&format!("volumes = [\"{}:/data\"]", now.display()));
    is_seen_as_it_is(&server, times, |number| {
        if number > 0 {
            renameat_with(CWD, &now, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        }
        ["a", "b"][number % 2]
    });
}

#[test]
fn the_embedded_engine_shows_volumes_as_they_are_now() {
    volumes_are_as_they_are_now(60, |volumes| embedded(&format!("warm = 0\n{volumes}")));
}

#[test]
fn the_embedded_engine_shows_them_so_to_containers_that_wait() {
    volumes_are_as_they_are_now(60, |volumes| embedded(&format!("warm = 3\n{volumes}")));
}

#[test]
fn the_embedded_engine_shows_them_so_to_a_root_that_takes_writes() {
    volumes_are_as_they_are_now(30, |volumes| embedded(&format!("read_only = false\n{volumes}")));
}

#[test]
fn the_embedded_engine_shows_them_so_where_containers_are_shared() {
    volumes_are_as_they_are_now(20, |volumes| embedded(&format!("isolation = \"shared\"\n{volumes}")));
}

#[test]
fn docker_shows_volumes_as_they_are_now() {
    volumes_are_as_they_are_now(6, |volumes| docker(&format!("warm = 0\n{volumes}")));
}

#[test]
fn docker_shows_them_so_to_containers_that_wait() {
    volumes_are_as_they_are_now(6, |volumes| docker(&format!("warm = 2\n{volumes}")));
}

#[test]
fn docker_shows_them_so_where_containers_are_shared() {
    volumes_are_as_they_are_now(6, |volumes| docker(&format!("isolation = \"shared\"\n{volumes}")));
}

// === which one is seen ===

/// What a program finds at `/FOLDER/which` of each of these.
#[track_caller]
fn finds(server: &Server, expected: &[(&str, &str)]) {
    for _ in 0..2 {
        for (folder, name) in expected {
            let response = server.get(&format!("/?text&file={folder}/which&write={folder}/new"));
            assert_eq!(response.status, 200, "{}{}", response.text(), server.log());
            let said = response.text();
            assert!(said.starts_with(name), "{folder}: {said}");
        }
    }
}

#[track_caller]
fn the_deeper_one_is_seen(serve: impl Fn(&str) -> Served) {
    let folder = releases(&["one", "two", "three"]);
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(folder.path().join("one/within")).unwrap();
    let server = serve(&format!(
        "tmpfs = [\"/data/cache\", \"/tmp\"]\nvolumes = [\"{}:/data/within\", \"{}:/tmp/x/y\", \"{}:/data\"]",
        at("two"),
        at("three"),
        at("one"),
    ));
    finds(&server, &[("/data", "one"), ("/data/within", "two"), ("/tmp/x/y", "three")]);
    // Of the memory, nothing is on the disk but its mount point.
    let said = server.get("/?text&write=/data/cache/file&file=/data/cache/file").text();
    assert!(said.contains("written"), "{said}");
    assert_eq!(fs::read_dir(folder.path().join("one/cache")).unwrap().count(), 0);
    assert!(folder.path().join("two/new").exists() && folder.path().join("three/new").exists());
}

#[test]
fn the_embedded_engine_shows_the_deeper_one() {
    for more in ["", "warm = 2", "read_only = false", "isolation = \"shared\""] {
        the_deeper_one_is_seen(|volumes| embedded(&format!("{more}\n{volumes}")));
    }
}

#[test]
fn docker_shows_the_deeper_one() {
    the_deeper_one_is_seen(docker);
}

#[test]
fn a_file_may_be_a_volume_within_memory() {
    let folder = releases(&["one"]);
    let file = folder.path().join("one/which");
    for more in ["", "read_only = false"] {
        let server = embedded(&format!("{more}\nvolumes = [\"{}:/tmp/x/file:ro\"]", file.display()));
        let said = server.get("/?text&file=/tmp/x/file&write=/tmp/x/file&write=/tmp/x/other").text();
        assert!(said.starts_with("one"), "{said}");
        assert_eq!(said.matches("written").count(), 1, "{said}");
    }
}

/// An image whose `/data` is a volume, with a file in it.
fn declaring(more: &str) -> (Server, Store) {
    let store = Store::new();
    let config = serde_json::json!({ "Entrypoint": ["/app/probe"], "Volumes": { "/data": {} } });
    store.load("test/volumes:1", "probe.rs", &config);
    let server = store.serve(&format!("[[route]]\npath = \"/\"\nimage = \"test/volumes:1\"\n{more}\n"));
    (server, store)
}

#[test]
fn what_an_image_declares_below_a_mount_is_seen_and_is_each_containers_own() {
    let folder = releases(&["one"]);
    for read_only in ["", "read_only = false\n"] {
        let store = Store::new();
        let config = serde_json::json!({ "Entrypoint": ["/app/probe"], "Volumes": { "/tmp/own": {}, "/data/sub": {} } });
        store.load("test/volumes:1", "probe.rs", &config);
        let volume = folder.path().join("one");
        let server = store.serve(&format!(
            "[[route]]\npath = \"/\"\nimage = \"test/volumes:1\"\nvolumes = [\"{}:/data\"]\n{read_only}",
            volume.display()
        ));
        for _ in 0..2 {
            let said = server
                .get("/?text&file=/data/which&file=/data/sub/left&file=/tmp/own/left&write=/data/sub/left&write=/tmp/own/left")
                .text();
            assert!(said.contains("one"), "{said}");
            assert_eq!(said.matches("written").count(), 2, "{said}{}", server.log());
            assert!(!said.contains("hello"), "{said}");
        }
        assert_eq!(fs::read_dir(volume.join("sub")).unwrap().count(), 0, "it is in the route's volume");
    }
}

#[test]
fn what_an_image_declares_is_there_as_ever() {
    for more in ["", "warm = 2"] {
        let (server, _store) = declaring(more);
        let said = server.get("/?text&file=/data/in-image&write=/data/left").text();
        assert!(said.contains("as it is in the image") && said.contains("written"), "{said}");
        assert!(!server.get("/?text&file=/data/left").text().contains("x"), "it is the next one's too");
    }
}

// === what a program may do to its volumes ===

#[test]
fn no_link_in_a_volume_is_followed_to_where_something_is_mounted() {
    let folder = releases(&["one", "two"]);
    let (volume, other) = (folder.path().join("one"), folder.path().join("two"));
    let store = store_with(&[("test/probe", "probe.rs", &["/app/probe"])]);
    for (name, target) in [("a", "/proc/1/root"), ("b", "/etc"), ("c", "."), ("d", "/proc/self/cwd")] {
        for (mount, below) in [
            (
                format!("volumes = [\"{0}:/data\", \"{1}:/data/{name}\"]", volume.display(), other.display()),
                "",
            ),
            (
                format!(
                    "volumes = [\"{0}:/data\", \"{1}:/data/{name}/x\"]",
                    volume.display(),
                    other.display()
                ),
                "/x",
            ),
            (format!("volumes = [\"{0}:/data\"]\ntmpfs = [\"/data/{name}\"]", volume.display()), ""),
            (format!("volumes = [\"{0}:/data\"]\ntmpfs = [\"/data/{name}/x\"]", volume.display()), "/x"),
        ] {
            for read_only in [true, false] {
                let link = volume.join(name);
                _ = fs::remove_file(&link);
                symlink(target, &link).unwrap();
                let server = store.serve(&format!(
                    "[[route]]\npath = \"/\"\nimage = \"test/probe\"\nread_only = {read_only}\n{mount}\n"
                ));
                let response = server.get("/?text&file=/proc/self/mountinfo");
                assert_eq!(response.status, 502, "{target}{below}: {}", response.text());
                server.wait_for_log_of(response.id(), "no part of which may be a link");
                fs::remove_file(&link).unwrap();
                assert!(!Path::new("/x").exists() && !other.join("x").exists() && !volume.join("x").exists());
            }
        }
    }
}

#[test]
fn an_ordinary_user_has_volumes_that_begin_with_a_directory_which_is_not_to_be_written_to() {
    let folder = common::engine::open_folder();
    let under = Under::embedded_as_ordinary_user(&folder);
    let config = "engine = \"embedded\"\n[[route]]\npath = \"/\"\nimage = \"IMAGE\"\npull = \"never\"\n\
                  volumes = [\"kept:/closed\"]\n";
    let server = Server::start_under(under, config, |_| {});
    let response = server.get("/?text&write=/closed/x");
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(!response.text().contains("written"), "{}", response.text());
    drop(server);
    common::engine::take_back_cgroups();
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_source_of_a_file_system_that_is_gone_is_told_with_its_name() {
    let folder = releases(&["one"]);
    let path: PathBuf = folder.path().join("one");
    let server = embedded(&format!("volumes = [\"{}:/data\"]", path.display()));
    assert_eq!(which(&server), "one");
    fs::rename(&path, folder.path().join("moved")).unwrap();
    let response = server.get("/?text");
    assert_eq!(response.status, 502);
    server.wait_for_log_of(response.id(), &format!("the volume {} (for /data) is not there", path.display()));
    fs::rename(folder.path().join("moved"), &path).unwrap();
    assert_eq!(which(&server), "one");
}
