//! Programs without an image: in a directory of this machine's, and on this machine itself.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::embedded::{Store, compiled};
use common::{Server, Under};
use tempfile::TempDir;

/// A directory with the probe as `/app/probe` in it, that everybody may enter.
fn root(folders: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(folder.path().join("app")).unwrap();
    fs::copy(compiled("probe.rs"), folder.path().join("app/probe")).unwrap();
    for name in folders {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    folder
}

const EVERY_MOUNT_POINT: [&str; 5] = ["dev", "etc", "proc", "sys", "tmp"];

fn route(root: &Path, more: &str) -> String {
    format!(
        "[[route]]\npath = \"/\"\nrootfs = \"{}\"\nentrypoint = [\"/app/probe\"]\n{more}\n",
        root.display()
    )
}

/// Everything below a directory, with what tells whether it was written to.
fn listing(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            lines.push(format!(
                "{} {:?} {:?}",
                entry.path().display(),
                found.modified(),
                found.permissions()
            ));
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    lines.sort();
    lines
}

// === a directory ===

#[test]
fn a_directory_is_served_and_never_written_to() {
    // As it is, and with memory above it for the mount points that it lacks, and for what is written.
    for (folders, more) in [
        (&EVERY_MOUNT_POINT[..], ""),
        (&["etc"][..], ""),
        (&EVERY_MOUNT_POINT[..], "read_only = false"),
        (&["etc"][..], "read_only = false"),
        (&["etc"][..], "isolation = \"shared\""),
    ] {
        let root = root(folders);
        let before = listing(root.path());
        let store = Store::new();
        let server = store.serve(&route(root.path(), more));
        for _ in 0..3 {
            let response = server.get("/?text&write=/app/new&write=/etc/new&write=/tmp/new&print=served");
            let (status, said) = (response.status, response.text());
            assert_eq!(status, 200, "{more}: {said}{}", server.log());
            assert!(said.ends_with("served"), "{said}");
            let written = if more.starts_with("read_only") { 3 } else { 1 };
            assert_eq!(said.matches("written").count(), written, "{more}: {said}");
        }
        drop(server);
        assert_eq!(listing(root.path()), before);
    }
}

#[test]
fn a_directory_on_a_mount_that_refuses_writes_is_served() {
    let outer = tempfile::tempdir().unwrap();
    let root = root(&["etc"]);
    let mount = Mounted::bind(root.path(), outer.path());
    run("mount", &["-o", "remount,bind,ro", outer.path().to_str().unwrap()]);
    let store = Store::new();
    let server = store.serve(&route(outer.path(), ""));
    assert_eq!(server.get("/?text&print=served").text(), "served");
    drop(server);
    drop(mount);
}

/// A mount of this machine's, for as long as it is held.
struct Mounted(PathBuf);

impl Mounted {
    fn bind(source: &Path, target: &Path) -> Self {
        run("mount", &["--bind", source.to_str().unwrap(), target.to_str().unwrap()]);
        Self(target.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let (success, said) = common::piped(Command::new(program).args(arguments), b"");
    assert!(success, "{program} {arguments:?}: {said}");
}

#[test]
fn what_is_mounted_below_it_is_not_seen() {
    let (root, other) = (root(&["etc", "other"]), tempfile::tempdir().unwrap());
    fs::write(other.path().join("file"), "of another file system").unwrap();
    let _mounted = Mounted::bind(other.path(), &root.path().join("other"));
    let store = Store::new();
    for more in ["", "read_only = false"] {
        let server = store.serve(&route(root.path(), more));
        let response = server.get("/?text&file=/other/file&print=here");
        let said = response.text();
        assert!(response.status == 200 && said.ends_with("here") && !said.contains("of another"), "{said}");
    }
}

#[test]
fn links_in_it_never_lead_out_of_it() {
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("secret"), "of the host").unwrap();
    let root = root(&["dev", "etc", "proc", "sys", "tmp"]);
    let link = |target: &Path, name: &str| symlink(target, root.path().join(name)).unwrap();
    link(secret.path(), "absolute");
    link(&Path::new("../../../../../../..").join(secret.path().strip_prefix("/").unwrap()), "above");
    link(Path::new("/proc/1/root"), "through");
    let data = tempfile::tempdir().unwrap();
    let volumes = format!("volumes = [\"{}:/absolute/data\"]", data.path().display());
    for more in ["", "read_only = false", &volumes] {
        let store = Store::new();
        let server = store.serve(&route(root.path(), more));
        let path = secret.path().display();
        let said = server
            .get(&format!(
                "/?text&file=/absolute/secret&file=/above/secret&file=/through{path}/secret&file=/app/x"
            ))
            .text();
        assert!(!said.contains("of the host"), "{said}");
        assert_eq!(fs::read_dir(secret.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_directory_that_is_replaced_is_seen_by_the_next_request() {
    let outer = tempfile::tempdir().unwrap();
    let (first, second) = (root(&["etc"]), root(&["etc"]));
    for (root, text) in [(&first, "first"), (&second, "second")] {
        fs::write(root.path().join("etc/which"), text).unwrap();
    }
    for more in ["", "warm = 2", "isolation = \"shared\"", "read_only = false"] {
        let link = outer.path().join("root");
        symlink(first.path(), &link).unwrap();
        let store = Store::new();
        let server = store.serve(&route(&link, more));
        for (root, text) in [(&first, "first"), (&second, "second"), (&first, "first")] {
            fs::remove_file(&link).unwrap();
            symlink(root.path(), &link).unwrap();
            for _ in 0..3 {
                assert_eq!(server.get("/?text&file=/etc/which").text().trim_end(), text, "{more}");
            }
        }
        fs::remove_file(&link).unwrap();
        let response = server.get("/?text");
        assert_eq!(response.status, 502);
        server.wait_for_log_of(response.id(), &format!("the root directory {} is not there", link.display()));
    }
}

#[track_caller]
fn is_refused(root: &Path, more: &str, why: &str) {
    let store = Store::new();
    let server = store.serve(&route(root, more));
    server.wait_for_log("the route cannot be served now");
    let response = server.get("/");
    assert_eq!(response.status, 502, "{}", response.text());
    let line = server.wait_for_log_of(response.id(), why);
    assert!(line.contains(root.to_str().unwrap()), "{line}");
}

#[test]
fn what_is_no_root_file_system_is_told_with_its_name_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    is_refused(&path("none"), "", "is not there");
    symlink("none", path("link")).unwrap();
    is_refused(&path("link"), "", "is not there: it is a link to none, which leads nowhere");
    fs::write(path("file"), "").unwrap();
    is_refused(&path("file"), "", "is a file: `rootfs` is a directory that holds a root file system");
    fs::create_dir(path("empty")).unwrap();
    is_refused(&path("empty"), "", "is empty: unpack a root file system there, or name another in `rootfs`");
    fs::create_dir_all(path("other/docs")).unwrap();
    is_refused(&path("other"), "", "is no root file system: it has no /bin, /usr or /etc");
}

#[test]
fn a_directory_with_bin_usr_etc_or_the_program_is_a_root_file_system() {
    // Elsewhere, for it makes a root by itself.
    let program = root(&[]);
    let volume = format!("volumes = [\"{}:/data:ro\"]", program.path().join("app").display());
    for folder in ["bin", "usr", "etc"] {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root.path().join("docs")).unwrap();
        is_refused(root.path(), &volume, "is no root file system: it has no /bin, /usr or /etc");
        fs::create_dir(root.path().join(folder)).unwrap();
        let store = Store::new();
        let server = store.serve(&route(root.path(), &volume).replace("/app/probe", "/data/probe"));
        let response = server.get("/?text&print=served");
        assert_eq!(response.text(), "served", "{folder}: {}", server.log());
    }
    let store = Store::new();
    let server = store.serve(&route(program.path(), ""));
    assert_eq!(server.get("/?text&print=served").text(), "served", "{}", server.log());
}

#[test]
fn why_a_program_cannot_be_run_is_told_by_what_is_wrong_with_it() {
    let root = root(&EVERY_MOUNT_POINT);
    let cgi = root.path().join("cgi");
    fs::create_dir(&cgi).unwrap();
    let elf = fs::read(root.path().join("app/probe")).unwrap();
    // An executable of a machine that this one is not: ELF's e_machine, where the header has it.
    let foreign = [&elf[..18], &[0xff, 0x7f], &elf[20..64]].concat();
    let cases: [(&str, &[u8], u32, &str); 6] = [
        ("crlf", b"#!/app/probe\r\n", 0o755, "its `#!` line ends in CRLF"),
        ("not-executable", b"#!/app/probe\n", 0o644, "its user may not execute it; `chmod a+rx`"),
        ("no-format", b"print 'hello'\n", 0o755, "its first two bytes are no `#!`"),
        ("another-machine", &foreign, 0o755, "it is made for another processor"),
        ("no-way", b"", 0o755, "its user may not enter a directory on the way to it"),
        ("no-folder", b"", 0o755, "or its user may not enter it: that is `working_dir`, else the folder of"),
    ];
    let mut routes = String::from("[defaults]\nuser = \"1000:1000\"\n");
    let mut add = |name: &str, program: &str| {
        let folder = if name == "no-way" { "working_dir = \"/\"\n" } else { "" };
        for (prefix, more) in [("fresh", ""), ("shared", "isolation = \"shared\"\n")] {
            routes += &format!(
                "[[route]]\npath = \"/{prefix}/{name}\"\nrootfs = \"{}\"\ncommand = [\"{program}\"]\n{folder}{more}",
                root.path().display()
            );
        }
    };
    add("missing", "/cgi/nosuch");
    for (name, content, mode, _) in cases {
        let is_closed = name == "no-way" || name == "no-folder";
        let folder = if is_closed { cgi.join("closed") } else { cgi.clone() };
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), content).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
        add(name, &format!("/cgi/{}{name}", if is_closed { "closed/" } else { "" }));
    }
    fs::set_permissions(cgi.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let store = Store::new();
    let server = store.serve(&routes);
    let told = cases.map(|(name, .., why)| (name, why));
    for (name, why) in [("missing", "there is no such file")].into_iter().chain(told) {
        for prefix in ["fresh", "shared"] {
            let response = server.get(&format!("/{prefix}/{name}"));
            assert_eq!(response.status, 502, "{name}");
            let line = server.wait_for_log_of(response.id(), why);
            assert!(line.contains("ERROR"), "{prefix}/{name}: {line}");
        }
    }
}

#[test]
fn a_docker_engine_has_no_root_directories_and_says_so() {
    let root = root(&["etc"]);
    let config = route(root.path(), "");
    let path = common::server::unique_path("rootfs.toml");
    fs::write(&path, format!("engine = \"docker\"\n{config}")).unwrap();
    let (code, _, said) = common::server::dcgi(&["check", "-c", path.to_str().unwrap()], b"");
    assert_eq!(code, 1);
    let why = "`rootfs` is the embedded engine's alone";
    assert!(said.contains(why), "{said}");
    // Nor does anything begin to listen that could only refuse.
    for arguments in [
        &["serve", "-c", path.to_str().unwrap()][..],
        &["run", "--listen", "127.0.0.1:0", "--engine", "docker", "--rootfs", "/", "--", "/bin/date"],
    ] {
        let (code, _, said) = common::server::dcgi(arguments, b"");
        assert_eq!(code, 1);
        assert!(said.contains(why) && said.contains("use engine = \"embedded\""), "{said}");
    }
    let (code, table, said) = {
        fs::write(&path, format!("engine = \"embedded\"\n{config}")).unwrap();
        common::server::dcgi(&["check", "-c", path.to_str().unwrap()], b"")
    };
    fs::remove_file(&path).unwrap();
    assert_eq!(code, 0, "{said}");
    assert!(table.contains(root.path().to_str().unwrap()), "{table}");
}

#[test]
fn a_script_whose_interpreter_leads_nowhere_is_a_502_that_names_it() {
    let root = root(&["bin", "etc"]);
    symlink("/usr/bin/none", root.path().join("bin/sh")).unwrap();
    let script = root.path().join("app/x.sh");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let store = Store::new();
    let config = route(root.path(), "").replace("/app/probe", "/app/x.sh");
    let server = store.serve(&config);
    let response = server.get("/");
    assert_eq!(response.status, 502);
    let line =
        server.wait_for_log_of(response.id(), "has no /bin/sh, which `/app/x.sh` names in its first line");
    assert!(line.contains(root.path().to_str().unwrap()), "{line}");
}

// === this machine ===

/// Scripts of this machine, in a directory that everybody may enter.
fn scripts(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

const PERL: &str =
    "use strict; use POSIX;\nprint \"Content-Type: text/plain\\n\\nperl as $> in \" . getcwd() . \"\\n\";\n";
const PYTHON: &str = "#!/usr/bin/python3\nimport json, os\nprint('Content-Type: text/plain\\n')\nprint('python as', os.geteuid())\n";
const SHELL: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nshell as %s\\n' \"$(id -u)\"\n";

fn machine_routes(cgi: &Path, more: &str) -> String {
    let route = |path: &str, command: &str| {
        format!(
            "[[route]]\npath = \"{path}\"\nrootfs = \"/\"\nvolumes = [\"{}:/cgi:ro\"]\nentrypoint = [{command}]\n{more}\n",
            cgi.display()
        )
    };
    [
        route("/perl", "\"/usr/bin/perl\", \"/cgi/x.pl\""),
        route("/python", "\"/cgi/x.py\""),
        route("/shell", "\"/cgi/x.sh\""),
    ]
    .concat()
}

#[test]
fn scripts_of_this_machine_answer_without_an_image() {
    let cgi = scripts(&[("x.pl", PERL), ("x.py", PYTHON), ("x.sh", SHELL)]);
    for (more, user) in
        [("", "33"), ("isolation = \"shared\"", "33"), ("read_only = false", "33"), ("user = \"root\"", "0")]
    {
        let store = Store::new();
        let server = store.serve(&machine_routes(cgi.path(), more));
        for _ in 0..2 {
            assert_eq!(
                server.get("/perl").text(),
                format!("perl as {user} in /usr/bin\n"),
                "{}",
                server.log()
            );
            assert_eq!(server.get("/python").text(), format!("python as {user}\n"), "{}", server.log());
            assert_eq!(server.get("/shell").text(), format!("shell as {user}\n"), "{}", server.log());
        }
    }
}

/// Files in `/tmp` take memory, and are no process's: the kernel kills one after the other, to what waits for them all.
#[test]
fn a_script_whose_children_fill_the_memory_with_files_is_told_by_that() {
    let script =
        "#!/bin/sh\nhead -c 300M /dev/zero >/tmp/x\nprintf 'Content-Type: text/plain\\n\\nfilled\\n'\n";
    let cgi = scripts(&[("x.sh", script)]);
    let store = Store::new();
    let config = format!(
        "[[route]]\npath = \"/p\"\nrootfs = \"/\"\nvolumes = [\"{}:/cgi:ro\"]\nentrypoint = [\"/cgi/x.sh\"]\nmemory = \"64MiB\"\n",
        cgi.path().display()
    );
    let server = store.serve(&config);
    for _ in 0..3 {
        let response = server.get("/p");
        assert_eq!(response.status, 502, "{}", server.log());
        server.wait_for_log_of(response.id(), "out of memory");
    }
}

#[test]
fn what_the_demo_says_of_a_script_of_ones_own_is_so() {
    let folder = tempfile::tempdir().unwrap();
    let cgi = folder.path().join("cgi");
    fs::create_dir(&cgi).unwrap();
    fs::write(cgi.join("mine.sh"), include_str!("../src/command/demo/page/script.sh")).unwrap();
    for path in [folder.path(), &cgi, &cgi.join("mine.sh")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let config = include_str!("../src/command/demo/page/script.toml");
    let (_, routes) = config.split_once("\n\n").expect("a line that says where to listen");
    // The file is not in that folder here.
    let routes = routes.replace("./cgi", cgi.to_str().unwrap());
    let store = Store::new();
    let server = store.serve(&routes);
    let said = server.get("/mine/anything").text();
    assert!(said.starts_with("Hello, 127.0.0.1. You asked for /anything.\n"), "{said}\n{}", server.log());
}

#[test]
fn an_ordinary_user_serves_scripts_of_this_machine() {
    let folder = common::engine::open_folder();
    let under = Under::embedded_as_ordinary_user(&folder);
    let cgi = scripts(&[("x.pl", PERL), ("x.py", PYTHON), ("x.sh", SHELL)]);
    let config = format!("engine = \"embedded\"\n{}", machine_routes(cgi.path(), ""));
    let server = Server::start_under(under, &config, |_| {});
    assert_eq!(server.get("/perl").text(), "perl as 33 in /usr/bin\n", "{}", server.log());
    assert_eq!(server.get("/python").text(), "python as 33\n", "{}", server.log());
    assert_eq!(server.get("/shell").text(), "shell as 33\n", "{}", server.log());
    drop(server);
    common::engine::take_back_cgroups();
    fs::remove_dir_all(folder).unwrap();
}

/// Something of this machine's that programs have no business with. Removed when it is dropped.
struct Canary(PathBuf);

const SECRET: &str = "the-canary-of-dcgis-tests";

impl Canary {
    fn new(path: &str, mode: u32, group: u32) -> Self {
        let canary = Self(path.into());
        fs::write(path, SECRET).unwrap();
        chown(path, Some(0), Some(group)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        canary
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// Tells of everything that is there but in the kernel's file systems: `D` and `L`, directories and links; `S`, neither
/// of these nor a file; `R`, a file that can be read and has anything in it; `X`, one with a canary in it.
const LOOK: &str = r#"
print "Content-Type: text/plain\n\n";
my @folders = ("/");
while (defined(my $folder = shift @folders)) {
    opendir(my $entries, $folder) or next;
    for my $name (readdir $entries) {
        next if $name eq "." or $name eq "..";
        my $path = ($folder eq "/" ? "" : $folder) . "/$name";
        next if $path =~ m{^/(proc|sys|dev|cgi)$};
        if (-l $path) { print "L $path\n"; next }
        if (-d _) { print "D $path\n"; push @folders, $path; next }
        if (-c _ and (stat _)[6] == 259) { print "N $path\n"; next }
        if (!-f _) { print "S $path\n"; next }
        open(my $file, "<", $path) or next;
        my $text = "";
        sysread($file, $text, 4096) or next;
        print(($text =~ /the-canary-of-dcgis-tests/ ? "X" : "R") . " $path\n");
    }
}
"#;

/// What is at the root, in `docs/security.md` as here.
const AT_THE_ROOT: [&str; 14] = [
    "bin", "cgi", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "run", "sbin", "sys", "tmp",
];

#[test]
fn nothing_that_is_no_programs_business_is_seen_of_this_machine() {
    let pid = std::process::id();
    let shadow = 42;
    let _canaries = [
        Canary::new(&format!("/root/dcgi-canary-{pid}"), 0o644, 0),
        Canary::new(&format!("/home/dcgi-canary-{pid}"), 0o644, 0),
        Canary::new(&format!("/run/dcgi-canary-{pid}"), 0o644, 0),
        Canary::new(&format!("/var/lib/dcgi-canary-{pid}"), 0o644, 0),
        Canary::new(&format!("/srv/dcgi-canary-{pid}"), 0o644, 0),
        Canary::new(&format!("/etc/dcgi-canary-{pid}"), 0o600, 0),
        Canary::new(&format!("/etc/dcgi-canary-of-a-group-{pid}"), 0o640, shadow),
        Canary::new(&format!("/etc/dcgi-canary-of-www-data-{pid}"), 0o640, 33),
        Canary::new(&format!("/opt/dcgi-canary-{pid}"), 0o600, 0),
        Canary::new(&format!("/opt/dcgi-canary-of-www-data-{pid}"), 0o640, 33),
    ];
    let socket = Canary(format!("/opt/dcgi-canary-{pid}.sock").into());
    let _listening = UnixListener::bind(&socket.0).unwrap();
    fs::set_permissions(&socket.0, fs::Permissions::from_mode(0o777)).unwrap();

    let cgi = scripts(&[("look.pl", LOOK)]);
    for user in ["", "user = \"root\"", "read_only = false\nuser = \"root\""] {
        let store = Store::new();
        let server = store.serve(&format!(
            "[[route]]\npath = \"/\"\nrootfs = \"/\"\nvolumes = [\"{}:/cgi:ro\"]\n\
             entrypoint = [\"/usr/bin/perl\", \"/cgi/look.pl\"]\ntimeout = \"5m\"\nidle_timeout = \"1m\"\n{user}\n",
            cgi.path().display()
        ));
        // One that came later, and one that others may not read any more.
        let _late = Canary::new(&format!("/etc/dcgi-canary-late-{pid}"), 0o600, 0);
        let response = server.get("/");
        let said = response.text();
        assert_eq!(response.status, 200, "{said}{}", server.log());
        let mut at_the_root = BTreeSet::new();
        let mut readable = 0;
        for line in said.lines() {
            let (kind, path) = line.split_once(' ').unwrap();
            at_the_root.insert(path.split('/').nth(1).unwrap().to_owned());
            let first: Vec<_> = path.split('/').skip(1).collect();
            assert!(!matches!(kind, "S" | "X"), "{user}: {line}");
            assert!(!(matches!(first[0], "run" | "tmp") && first.len() > 1), "{user}: {line}");
            assert!(first[0] != "var" || path == "/var" || path == "/var/run", "{user}: {line}");
            if kind == "R" && !["/etc/hosts", "/etc/hostname"].contains(&path) {
                readable += 1;
                let found = fs::metadata(path).unwrap();
                assert!(found.mode() & 0o004 != 0, "{user}: {line} {:o}", found.mode());
                for folder in Path::new(path).ancestors().skip(1) {
                    let found = fs::metadata(folder).unwrap();
                    assert!(
                        found.mode() & 0o001 != 0,
                        "{user}: {line} in {} {:o}",
                        folder.display(),
                        found.mode()
                    );
                }
            }
        }
        assert!(readable > 1000, "it has seen little: {readable}");
        let unknown: Vec<_> = at_the_root
            .iter()
            .filter(|name| !AT_THE_ROOT.contains(&&***name) && !["usr", "var"].contains(&&***name))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(!said.contains(" /etc/dcgi/"), "dcgi's own files");
    }
}

#[test]
fn this_machine_under_another_name_is_no_other() {
    let outer = tempfile::tempdir().unwrap();
    let link = outer.path().join("root");
    symlink("/", &link).unwrap();
    let folder = outer.path().join("mounted");
    fs::create_dir(&folder).unwrap();
    let _mounted = Mounted::bind(Path::new("/"), &folder);
    let cgi = scripts(&[(
        "x.sh",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; id -u; ls /root /home /srv 2>/dev/null\n",
    )]);
    for path in [&*link, &folder, Path::new("/usr/.."), Path::new("/proc/self/root")] {
        let store = Store::new();
        let server = store.serve(&format!(
            "[[route]]\npath = \"/\"\nrootfs = \"{}\"\nvolumes = [\"{}:/cgi:ro\"]\nentrypoint = [\"/cgi/x.sh\"]\n",
            path.display(),
            cgi.path().display()
        ));
        assert_eq!(server.get("/").text(), "33\n", "{}{}", path.display(), server.log());
    }
}

#[test]
fn a_named_volume_begins_with_nothing_of_this_machine() {
    let canary = Canary::new(&format!("/root/dcgi-canary-of-volumes-{}", std::process::id()), 0o644, 0);
    let cgi =
        scripts(&[("x.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; ls -A /root; echo end\n")]);
    let store = Store::new();
    let server = store.serve(&format!(
        "[[route]]\npath = \"/\"\nrootfs = \"/\"\nvolumes = [\"{}:/cgi:ro\", \"kept:/root\"]\n\
         entrypoint = [\"/cgi/x.sh\"]\n",
        cgi.path().display()
    ));
    assert_eq!(server.get("/").text(), "end\n", "{}", server.log());
    assert!(canary.0.exists());
}

#[test]
fn a_program_where_nothing_of_this_machine_is_seen_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("hello.sh");
    fs::write(&program, "#!/bin/sh\necho Content-Type: text/plain; echo; echo hello\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let store = Store::new();
    let route =
        format!("[[route]]\npath = \"/\"\nrootfs = \"/\"\nentrypoint = [\"{}\"]\n", program.display());
    let server = store.serve(&route);
    let response = server.get("/");
    assert_eq!(response.status, 502);
    let mount = format!("volumes = [\"{0}:{0}:ro\"]", folder.path().display());
    server.wait_for_log_of(response.id(), &format!("mount its directory ({mount})"));
    // And that is all.
    let server = store.serve(&format!("{route}{mount}\n"));
    assert_eq!(server.get("/").text(), "hello\n");
}

#[test]
fn a_place_that_this_machine_has_not_is_named() {
    let cgi = scripts(&[("x.sh", SHELL)]);
    let store = Store::new();
    let server = store.serve(&format!(
        "[[route]]\npath = \"/\"\nrootfs = \"/\"\nvolumes = [\"{}:/usr/no-such-place:ro\"]\n\
         entrypoint = [\"/usr/no-such-place/x.sh\"]\n",
        cgi.path().display()
    ));
    let response = server.get("/");
    assert_eq!(response.status, 502);
    server.wait_for_log_of(
        response.id(),
        "there is no /usr/no-such-place on this machine to mount something at",
    );
}
