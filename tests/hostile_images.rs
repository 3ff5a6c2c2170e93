//! Images that are made to be let out of their container, on the embedded engine.

mod common;

use std::io::empty;
use std::path::Path;

use common::Server;
use common::embedded::{Store, compiled};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use tar::{Builder, EntryType, Header};

/// A layer with the probe as `/app/probe`, and links and directories.
fn layer(links: &[(&str, &str)], folders: &[&str]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for folder in folders {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        header.set_mode(0o755);
        archive.append_data(&mut header, format!("{folder}/"), empty()).unwrap();
    }
    for (link, target) in links {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, link, target).unwrap();
    }
    archive.append_path_with_name(compiled("probe.rs"), "app/probe").unwrap();
    archive.into_inner().unwrap()
}

/// A server of one route at `/`, whose image has this layer.
fn serve(store: &Store, layer: &[u8], volumes: &serde_json::Value, more: &str) -> Server {
    store.load_layer("hostile", layer, &json!({ "Entrypoint": ["/app/probe"], "Volumes": volumes }));
    store.serve(&format!("[[route]]\npath = \"/\"\nimage = \"hostile\"\npull = \"never\"\n{more}"))
}

#[track_caller]
fn assert_refused(links: &[(&str, &str)], folders: &[&str], place: &str) {
    let store = Store::new();
    let server = serve(&store, &layer(links, folders), &json!({}), "");
    let response = server.get("/?text&write=/a/sys/kernel/core_pattern");
    assert_eq!(response.status, 502, "{}", response.text());
    server.wait_for_log_of(response.id(), &format!("something else than a directory at {place}"));
}

#[test]
fn a_link_in_place_of_proc_is_refused() {
    // What is protected by its name would not be found by it, once the kernel's files lie over `/a`.
    assert_refused(&[("proc", "a/b/..")], &["a", "a/b"], "/proc");
}

#[test]
fn a_link_in_place_of_sys_is_refused() {
    assert_refused(&[("sys", "a/b/..")], &["a", "a/b"], "/sys");
}

#[test]
fn a_link_in_place_of_dev_is_refused() {
    assert_refused(
        &[("dev", "/proc/1/cwd")],
        &["proc", "proc/1", "proc/1/cwd", "shm", "mqueue", "pts"],
        "/dev",
    );
}

#[test]
fn a_file_in_place_of_proc_is_refused() {
    // What the store makes of the root's mount points does not replace what an image has.
    assert_refused(&[("proc", "app/probe")], &[], "/proc");
}

#[test]
fn volumes_of_an_image_show_nothing_that_is_hidden_in_sys() {
    for (links, volume) in [(&[][..], "/sys"), (&[("data", "/sys")][..], "/data"), (&[][..], "/sys/firmware")]
    {
        let store = Store::new();
        let server = serve(&store, &layer(links, &["etc"]), &json!({ volume: {} }), "");
        let response = server.get("/?text&file=/proc/self/mountinfo&write=/sys/firmware/x");
        let said = response.text();
        assert_eq!(response.status, 200, "{said}");
        assert!(!said.contains("written"), "{said}");
        // The root is one itself.
        let overlays: Vec<_> =
            said.lines().filter(|line| line.contains(" - overlay ") && !line.contains(" / / ")).collect();
        assert!(overlays.is_empty(), "{overlays:?}");
        let hidden = said.lines().any(|line| line.contains(" /sys/firmware "));
        assert!(hidden || !Path::new("/sys/firmware").exists(), "{said}");
    }
}

#[test]
fn a_volume_of_an_image_whose_path_leads_through_a_link_and_back_is_refused() {
    for (link, volume) in [("/sys/kernel", "/lnk/.."), ("/proc/1", "/lnk/../x")] {
        let store = Store::new();
        let server = serve(&store, &layer(&[("lnk", link)], &["etc"]), &json!({ volume: {} }), "");
        assert_eq!(server.get("/?text").status, 502);
        server.wait_for_log("no path of a volume may lead through `..`");
    }
}

#[test]
fn a_volume_that_lands_on_dev_by_a_link_shows_nothing_that_is_hidden() {
    for (file, more) in
        [(true, ""), (false, ""), (true, "read_only = false\n"), (false, "read_only = false\n")]
    {
        let host = tempfile::tempdir().unwrap();
        if file {
            // What hides files is found by this name.
            std::fs::write(host.path().join("null"), "forged").unwrap();
        }
        let store = Store::new();
        let lines = format!("volumes = [\"{}:/data\"]\n{more}", host.path().display());
        let server = serve(&store, &layer(&[("data", "/dev")], &["etc"]), &json!({}), &lines);
        for _ in 0..3 {
            let response = server.get("/?text&file=/proc/interrupts&print=-&file=/dev/null&print=end");
            let said = response.text();
            assert_eq!(response.status, 200, "{}", server.log());
            let (hidden, devices) = said.split_once('-').unwrap();
            assert_eq!(hidden.trim(), "", "{said}");
            // And the volume is where it is to be.
            assert!(devices.starts_with(if file { "forged" } else { "" }), "{said}");
        }
        let entries: Vec<_> =
            std::fs::read_dir(host.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(entries.len(), usize::from(file), "{entries:?}");
    }
}

#[test]
fn a_volume_of_an_image_below_a_volume_of_the_route_is_not_led_elsewhere() {
    // Who can write there could make it a link to anywhere, between one request and the next.
    for more in ["", "read_only = false\n"] {
        let store = Store::new();
        let host = tempfile::tempdir().unwrap();
        let volumes = format!("volumes = [\"{}:/data\"]\n{more}", host.path().display());
        let server = serve(&store, &layer(&[], &["data", "data/x"]), &json!({ "/data/x": {} }), &volumes);
        let overlays = |said: &str| {
            let mounts = said.lines().filter(|line| line.contains(" - overlay ")).map(str::to_owned);
            mounts.filter(|line| !line.contains(" / / ")).collect::<Vec<_>>()
        };
        let said = server.get("/?text&file=/proc/self/mountinfo").text();
        let found = overlays(&said);
        assert!(said.contains(" /data ") && found.len() == 1 && found[0].contains(" /data/x "), "{said}");
        // At one stroke: a container that is made in between would make the directory anew.
        let (x, link) = (host.path().join("x"), host.path().join("link"));
        std::os::unix::fs::symlink("/sys", &link).unwrap();
        renameat_with(CWD, &link, CWD, &x, RenameFlags::EXCHANGE).unwrap();
        std::fs::remove_dir(&link).unwrap();
        // A container that waited has been made before.
        let status = || server.get("/?text&file=/proc/self/mountinfo");
        common::wait_until("it is refused", common::PATIENCE, || {
            let response = status();
            assert!(
                response.status == 502
                    || overlays(&response.text()).iter().all(|line| line.contains(" /data/x "))
            );
            response.status == 502
        });
        server.wait_for_log("no part of which may be a link");
    }
}

#[test]
fn a_link_in_place_of_resolv_conf_that_leads_nowhere_hinders_nobody() {
    let links = [("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"), ("etc/hosts", "/nowhere")];
    for more in ["network = \"host\"\n", "network = \"host\"\nread_only = false\n", "read_only = false\n"] {
        let store = Store::new();
        let server = serve(&store, &layer(&links, &["etc"]), &json!({}), more);
        let response = server.get("/?text&print=here");
        assert_eq!((response.status, &*response.text()), (200, "here"), "{more}{}", server.log());
    }
}

#[test]
fn a_program_of_another_user_opens_its_streams_by_name() {
    let store = Store::new();
    let server = serve(&store, &layer(&[], &["etc"]), &json!({}), "user = \"33:33\"\n");
    let response = server.get("/?text&write=/dev/stderr&write=/dev/stdout");
    assert_eq!(response.text().matches("written").count(), 2, "{}", response.text());
}
