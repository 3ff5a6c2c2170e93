//! The command line, as someone at a shell sees it.

mod common;

#[path = "../build.rs"]
#[allow(dead_code, reason = "it is a program of its own")]
mod build_script;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use common::server::{dcgi, unique_path};
use common::{Connection, docker};

/// A configuration file that goes when it is dropped.
struct File(std::path::PathBuf);

impl File {
    fn new(config: &str) -> Self {
        let path = unique_path("commands.toml");
        std::fs::write(&path, config.replace("IMAGE", docker::probe_image())).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

const ROUTES: &str = "
engine = \"docker\"

[[route]]
path = \"/p\"
image = \"IMAGE\"
pull = \"never\"
env = { GREETING = \"hi\" }

[[route]]
path = \"/filter\"
host = \"example.org\"
image = \"IMAGE\"
pull = \"never\"
output = \"raw\"
command = [\"do\", \"echo\"]
network = \"bridge\"
memory = \"64MiB\"
";

#[test]
fn a_variable_that_is_each_requests_own_is_refused() {
    let file = File::new(&ROUTES.replace("GREETING", "CONTENT_LENGTH"));
    let (code, _, said) = dcgi(&["check", "-c", file.path()], b"");
    assert_eq!(code, 1);
    assert!(said.contains("`env` has the name \"CONTENT_LENGTH\" in route `/p`"), "{said}");
    let (code, _, said) = dcgi(&["run", "image", "-e", "CONTENT_LENGTH=5"], b"");
    assert_eq!(code, 2);
    assert!(said.contains("CONTENT_LENGTH is each request's own"), "{said}");
}

#[test]
fn check_prints_the_routes_as_a_table() {
    let file = File::new(ROUTES);
    let (code, out, said) = dcgi(&["check", "-c", file.path()], b"");
    assert_eq!((code, said.as_str()), (0, ""));
    let rows: Vec<Vec<_>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["listen", "127.0.0.1:8080"]), "{out}");
    let header =
        ["ROUTE", "ENGINE", "IMAGE", "COMMAND", "OUTPUT", "NETWORK", "MEMORY", "TIMEOUT", "AT", "ONCE"];
    assert!(rows.contains(&header.to_vec()), "{out}");
    let first =
        ["/p", "docker", docker::PROBE, "(the", "image's)", "cgi", "none", "256.0", "MiB", "30s", "16"];
    assert!(rows.contains(&first.to_vec()), "{out}");
    let second = [
        "example.org/filter",
        "docker",
        docker::PROBE,
        "do",
        "echo",
        "raw",
        "bridge",
        "64.0",
        "MiB",
        "30s",
        "16",
    ];
    assert!(rows.contains(&second.to_vec()), "{out}");
    assert!(out.contains("\n/p  docker: the configuration says so\n"), "{out}");
}

#[test]
fn check_needs_no_engine() {
    let file = File::new(ROUTES);
    let status = Command::new(env!("CARGO_BIN_EXE_dcgi"))
        .args(["check", "-c", file.path()])
        .env("DOCKER_HOST", "unix:///nowhere")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn check_tells_all_problems_of_a_file_at_once() {
    let file = File::new("[[route]]\npath = \"/p\"\nimage = \"x\"\nmemroy = \"1MiB\"\nwarm = \"many\"\n");
    let (code, _, said) = dcgi(&["check", "-c", file.path()], b"");
    assert_eq!(code, 1);
    assert!(said.contains(":4:1: unknown key `memroy` in route `/p`; did you mean `memory`?"), "{said}");
    assert!(
        said.contains(
            ":5:8: `warm` = \"many\" in route `/p`: expected \"auto\", or how many containers to keep ready"
        ),
        "{said}"
    );
}

#[test]
fn check_tells_of_every_route_that_its_engine_cannot_have() {
    let file = File::new(
        "[[route]]\npath = \"/a\"\nrootfs = \"/\"\nengine = \"docker\"\ncommand = [\"/x\"]\n\
         [[route]]\npath = \"/b\"\nrootfs = \"/\"\nnetwork = \"bridge\"\ncommand = [\"/x\"]\n\
         [[route]]\npath = \"/c\"\nimage = \"x\"\nengine = \"embedded\"\nnetwork = \"back\"\n",
    );
    let (code, _, said) = dcgi(&["check", "-c", file.path()], b"");
    assert_eq!(code, 1);
    for route in ["/a", "/b", "/c"] {
        assert!(said.contains(&format!("route `{route}`: ")), "{said}");
    }
}

#[test]
fn check_says_what_requests_share_where_they_share_a_container() {
    let fresh = "[[route]]\npath = \"/fresh\"\nimage = \"x\"\n";
    let shared = "[[route]]\npath = \"/shared\"\nimage = \"x\"\nisolation = \"shared\"\n";
    let file = File::new(&format!("{fresh}{shared}"));
    let (code, said, _) = dcgi(&["check", "-c", file.path()], b"");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("route `/shared`: its requests share a container"), "{said}");
    assert!(!said.contains("route `/fresh`:"), "{said}");
}

#[test]
fn check_warns_of_directories_that_are_not_there() {
    let file = File::new(
        "[[route]]\npath = \"/root\"\nrootfs = \"/srv/nosuch\"\ncommand = [\"/x\"]\n\
         [[route]]\npath = \"/volume\"\nimage = \"x\"\nvolumes = [\"/srv/gone:/a:ro\", \"/usr:/b:ro\", \"named:/c\"]\n",
    );
    let (code, said, _) = dcgi(&["check", "-c", file.path()], b"");
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("warning: route `/root`: the root directory /srv/nosuch is not there: its requests"),
        "{said}"
    );
    assert!(
        said.contains("warning: route `/volume`: the volume /srv/gone (for /a) is not there: its requests"),
        "{said}"
    );
    assert_eq!(said.matches("is not there").count(), 2, "{said}");
    // A directory as the root is this machine's.
    let is_certain = |route: &str| {
        let warning = said.lines().find(|line| line.contains(&format!("warning: route `{route}`"))).unwrap();
        warning.ends_with(" will be answered with 502")
    };
    assert!(is_certain("/root") && !is_certain("/volume"), "{said}");
}

#[test]
fn check_warns_of_a_name_that_no_image_can_have() {
    let file = File::new("[[route]]\npath = \"/p\"\nimage = \"No/SuchImage\"\n");
    let (code, said, _) = dcgi(&["check", "-c", file.path()], b"");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("warning: route `/p`: `No/SuchImage` is no reference to an image"), "{said}");
}

#[test]
fn check_warns_of_a_volume_that_its_user_cannot_write_to() {
    let folder = unique_path("owned");
    std::fs::create_dir_all(&folder).unwrap();
    let route = |path: &str, more: &str| {
        format!("[[route]]\npath = \"{path}\"\nrootfs = \"/\"\ncommand = [\"/bin/true\"]\n{more}\n")
    };
    let volume = |options: &str| format!("volumes = [\"{}:/data{options}\"]", folder.display());
    let file = File::new(
        &[
            route("/stranger", &format!("user = \"1000:1000\"\n{}", volume(""))),
            route("/reader", &format!("user = \"1000:1000\"\n{}", volume(":ro"))),
            route("/named", &format!("user = \"nobody\"\n{}", volume(""))),
            route("/owner", &format!("user = \"0:0\"\n{}", volume(""))),
        ]
        .concat(),
    );
    let (code, said, _) = dcgi(&["check", "-c", file.path()], b"");
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(code, 0, "{said}");
    let warned: Vec<_> =
        said.lines().filter(|line| line.contains("cannot write to the volume at /data")).collect();
    assert_eq!(warned.len(), 2, "{said}");
    assert!(warned[0].starts_with("warning: route `/stranger`: its user 1000:1000"), "{said}");
    assert!(warned[1].starts_with("warning: route `/named`: its user 65534:65534"), "{said}");
}

#[test]
fn check_looks_into_root_directories() {
    let folder = unique_path("roots");
    std::fs::create_dir_all(folder.join("root/etc")).unwrap();
    std::fs::create_dir_all(folder.join("empty")).unwrap();
    for program in ["x", "root/etc/x"] {
        std::fs::write(folder.join(program), "#!/etc/x\n").unwrap();
        std::fs::set_permissions(folder.join(program), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let route = |path: &str, root: &str, command: &str, more: &str| {
        let root = folder.join(root);
        format!(
            "[[route]]\npath = \"{path}\"\nrootfs = \"{}\"\ncommand = [{command:?}]\n{more}\n",
            root.display()
        )
    };
    let volume = format!("volumes = [\"{}:/app:ro\"]", folder.display());
    let wrong = [
        route("/none", "nowhere", "/bin/x", ""),
        route("/empty", "empty", "/bin/x", ""),
        route("/programless", "root", "/app/x", ""),
        route("/stranger", "root", "/etc/x", "user = \"nosuch\""),
        // No name to print as it is.
        route("/lines", "empty", "/bin/a\nb", ""),
    ];
    let right = [route("/mounted", "root", "/app/x", &volume), route("/there", "root", "/etc/x", "")];
    let check = |routes: &[String], more: &[&str]| {
        let file = File::new(&routes.concat());
        let (code, said, _) = dcgi(&[&["check", "-c", file.path()], more].concat(), b"");
        (code, said)
    };
    let (code, said) = check(&[wrong.as_slice(), &right].concat(), &[]);
    assert_eq!(code, 0, "{said}");
    for (route, why) in [
        ("/none", "is not there"),
        ("/empty", "is empty: unpack a root file system there"),
        ("/programless", "has no /app/x, which `command` (or `entrypoint`) names"),
        ("/stranger", "/root: no user `nosuch` in its /etc/passwd"),
    ] {
        let warning = format!("warning: route `{route}`: ");
        let line =
            said.lines().find(|line| line.starts_with(&warning)).unwrap_or_else(|| panic!("{route}: {said}"));
        assert!(line.contains(why), "{line}");
    }
    assert!(said.contains("/bin/a\\nb"), "{said}");
    for route in ["/mounted", "/there"] {
        assert!(!said.contains(&format!("warning: route `{route}`")), "{said}");
    }
    assert_eq!(check(&wrong[1..2], &["--images"]).0, 1);
    assert_eq!(check(&right, &["--images"]).0, 0);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn check_looks_at_a_program_that_lies_here() {
    let folder = unique_path("scripts");
    std::fs::create_dir_all(folder.join("directory")).unwrap();
    let scripts = [
        ("right", "#!/bin/sh\n", 0o755),
        ("plain", "#!/bin/sh\n", 0o644),
        ("crlf", "#!/bin/sh\r\n", 0o755),
        ("bare", "echo\n", 0o755),
    ];
    for (name, content, mode) in scripts {
        std::fs::write(folder.join(name), content).unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let routes = ["right", "plain", "crlf", "bare", "directory", "nowhere"].map(|name| {
        format!(
            "[[route]]\npath = \"/{name}\"\nimage = \"x\"\nentrypoint = [\"/cgi/{name}\"]\nvolumes = [\"{}:/cgi:ro\"]\n",
            folder.display()
        )
    });
    let file = File::new(&routes.concat());
    let (code, said, _) = dcgi(&["check", "-c", file.path()], b"");
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(code, 0, "{said}");
    for (name, why) in [
        ("plain", "with mode 0644; `chmod a+rx` it"),
        ("crlf", "ends in CRLF"),
        ("bare", "its first two bytes are no `#!`"),
        ("directory", "is a directory"),
        ("nowhere", "is not there"),
    ] {
        let warning = format!("warning: route `/{name}`: ");
        let line =
            said.lines().find(|line| line.starts_with(&warning)).unwrap_or_else(|| panic!("{name}: {said}"));
        assert!(line.contains(why) && line.contains(folder.join(name).to_str().unwrap()), "{line}");
    }
    assert!(!said.contains("warning: route `/right`"), "{said}");
}

#[test]
fn check_looks_at_directories_that_are_served() {
    let folder = unique_path("served");
    std::fs::create_dir_all(folder.join("cgi/sub")).unwrap();
    for (name, content, mode) in [
        ("cgi/right.cgi", "#!/bin/sh\n", 0o755),
        ("cgi/crlf.cgi", "#!/bin/sh\r\n", 0o755),
        ("cgi/sub/plain.cgi", "#!/bin/sh\n", 0o644),
        ("cgi/handled.pl", "print 1", 0o644),
        ("cgi/page.html", "", 0o644),
        ("cgi/.hidden", "", 0o644),
        ("file", "", 0o644),
    ] {
        std::fs::write(folder.join(name), content).unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let shown = folder.display();
    let handlers = "handlers = { \".pl\" = [\"/usr/bin/no-perl\"], \".cgi\" = [] }\n";
    let file = File::new(&format!(
        "[[route]]\npath = \"/cgi\"\nrootfs = \"/\"\nscripts = \"{shown}/cgi\"\n{handlers}\
         [[route]]\npath = \"/both\"\nrootfs = \"/\"\nscripts = \"{shown}/cgi\"\nstatic = \"{shown}/cgi\"\n{handlers}\
         [[route]]\npath = \"/file\"\nrootfs = \"/\"\nscripts = \"{shown}/file\"\n\
         [[route]]\npath = \"/files\"\nstatic = \"{shown}/cgi\"\n\
         [[route]]\npath = \"/none\"\nstatic = \"{shown}/none\"\n"
    ));
    let (code, said, _) = dcgi(&["check", "-c", file.path()], b"");
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(code, 0, "{said}");
    let warned = |route: &str| {
        let begin = format!("warning: route `{route}`: ");
        said.lines().filter_map(|line| line.strip_prefix(&begin)).map(str::to_owned).collect::<Vec<_>>()
    };
    for (route, whys) in [
        ("/cgi", &["for .pl: the program /usr/bin/no-perl", "crlf.cgi", "page.html", "sub/plain.cgi"][..]),
        // What no handler is for is sent.
        ("/both", &["for .pl: the program /usr/bin/no-perl", "crlf.cgi", "sub/plain.cgi"]),
        ("/file", &["which is a file: expected a directory"]),
        ("/files", &[]),
        ("/none", &["which cannot be had: No such file"]),
    ] {
        let warnings = warned(route);
        assert_eq!(warnings.len(), whys.len(), "{route}: {warnings:?}");
        for (warning, why) in warnings.iter().zip(whys) {
            assert!(warning.contains(why), "{route}: {warning}");
        }
    }
    let row =
        |route: &str| said.lines().find(|line| line.trim_start().starts_with(route)).unwrap().to_owned();
    assert!(row("/files").contains("files in "), "{said}");
    assert!(row("/both").contains("scripts and files in "), "{said}");
}

/// Starts `dcgi cgi-bin`, has a path answered, and ends it.
fn cgi_bin_once(arguments: &[&str], path: &str) -> common::Response {
    let store = unique_path("store");
    let response = served_once(&[&["cgi-bin"], arguments].concat(), path, |command| {
        command.env("DCGI_STORE", &store);
    });
    std::fs::remove_dir_all(store).unwrap();
    response
}

/// Starts a command that listens, has a path answered, and ends it.
fn served_once(arguments: &[&str], path: &str, change: impl FnOnce(&mut Command)) -> common::Response {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dcgi"));
    command.args(&arguments[..1]).args(["-l", "127.0.0.1:0"]).args(&arguments[1..]);
    change(&mut command);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("dcgi listens on http://").unwrap().parse().unwrap();
    let response = Connection::open(address).get(path);
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    response
}

#[test]
fn cgi_bin_serves_a_directory_by_this_machines_own_interpreters() {
    let folder = unique_path("cgi-bin");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    let script = "#!/bin/sh\necho Content-Type: text/plain\necho\necho $SCRIPT_NAME $PATH_INFO $(id -un)\n";
    for (name, mode) in [("a.cgi", 0o755), ("sub/index.cgi", 0o755), ("b.txt", 0o644)] {
        std::fs::write(folder.join(name), script).unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let link = unique_path("link");
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    let directory = folder.to_str().unwrap();
    let user = "www-data";
    for (arguments, path, answer) in [
        (&[directory][..], "/cgi-bin/a.cgi/x", format!("/cgi-bin/a.cgi /x {user}\n")),
        (&[link.to_str().unwrap()], "/cgi-bin/a.cgi", format!("/cgi-bin/a.cgi {user}\n")),
        (&[directory, "--path", "/", "--index", "index.cgi"], "/sub/", format!("/sub/index.cgi {user}\n")),
        (&[directory, "--handler", ".txt=/bin/sh"], "/cgi-bin/b.txt", format!("/cgi-bin/b.txt {user}\n")),
    ] {
        let response = cgi_bin_once(arguments, path);
        assert_eq!((response.status, response.text()), (200, answer), "{arguments:?}");
    }
    // Whoever starts it by hand is told.
    let response = cgi_bin_once(&[directory], "/cgi-bin/b.txt");
    assert!(response.status == 502 && response.text().contains("chmod a+rx"), "{}", response.text());
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::remove_file(&link).unwrap();
}

#[test]
fn cgi_bin_says_what_is_wrong_with_what_it_is_given() {
    let file = File::new("x");
    for (arguments, why) in [
        (&["/nowhere"][..], "the directory /nowhere: No such file or directory"),
        (&[file.path()], "is a file: expected a directory of scripts; `dcgi run` serves a single program"),
        (&["/"], "is mounted at its own path: an absolute one, in UTF-8, and not \"/\""),
        (&["/usr/lib", "--index", "a/b"], "expected the name of a file"),
        (&["/usr/lib", "--handler", "pl=/usr/bin/perl"], "expected how names end"),
        (&["/usr/lib", "--handler", ".pl"], "expected .ENDING=PROGRAM"),
        (
            &["/usr/lib", "-v", "/srv:/usr/lib"],
            "-v mounts something at /usr/lib, where the scripts are: leave it out",
        ),
        (&["/usr/lib", "--image", "x", "--rootfs", "/"], "cannot be used with"),
    ] {
        let (code, _, said) = dcgi(&[&["cgi-bin"], arguments].concat(), b"");
        assert!(code != 0 && said.contains(why), "{arguments:?}: {said}");
    }
}

#[test]
#[allow(clippy::disallowed_methods)]
fn who_has_read_enough_of_what_is_printed_may_leave() {
    let file = File::new(ROUTES);
    for arguments in [&["check", "-c", file.path()][..], &["completions", "bash"], &["man", "run"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_dcgi"));
        let output = command.args(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert!(output.status.success(), "{arguments:?}: {:?}", output.status);
    }
}

#[test]
fn check_looks_for_images_where_it_is_asked_to_and_pulls_none() {
    let file = File::new(ROUTES);
    let (code, said, _) = dcgi(&["check", "--images", "-c", file.path()], b"");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("route `/p`: image `{}` is there", docker::PROBE)), "{said}");
    let route = "engine = \"docker\"\n[[route]]\npath = \"/p\"\nimage = \"dcgi-test/nosuch\"\n";
    let file = File::new(&format!("{route}pull = \"never\"\n"));
    let (code, said, _) = dcgi(&["check", "--images", "-c", file.path()], b"");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("warning: route `/p`: the container engine at "), "{said}");
    assert!(said.contains("`docker build -t dcgi-test/nosuch .`"), "{said}");
    let file = File::new(route);
    let (code, said, _) = dcgi(&["check", "--images", "-c", file.path()], b"");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("image `dcgi-test/nosuch` is not here: it is pulled at the start"), "{said}");
}

#[test]
fn a_configuration_file_that_is_not_there_is_named() {
    let (code, _, said) = dcgi(&["check", "-c", "/nowhere/dcgi.toml"], b"");
    assert_eq!(code, 1);
    let what = "dcgi: cannot read /nowhere/dcgi.toml: No such file or directory (os error 2)";
    assert_eq!(said, format!("{what}; `dcgi init` writes one to begin with, -c names another\n"));
}

#[test]
fn an_address_without_its_quotes_is_shown_with_them() {
    let file = File::new(&format!("listen = 127.0.0.1:8080\n{ROUTES}"));
    let (code, _, said) = dcgi(&["check", "-c", file.path()], b"");
    assert_eq!(code, 1);
    assert!(said.contains(":1:10: a string is quoted: \"127.0.0.1:8080\"\n"), "{said}");
    assert_eq!(said.lines().count(), 3, "{said}");
}

#[test]
fn an_address_that_is_taken_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, said) =
        dcgi(&["run", "--rootfs", "/", "--engine", "embedded", "-l", &address, "--", "/bin/true"], b"");
    assert_eq!(code, 1);
    let last = said.lines().last().unwrap();
    assert!(last.starts_with(&format!("dcgi: cannot listen on {address}: Address already in use")), "{said}");
    assert!(last.ends_with("set `listen` (--listen) to another address"), "{said}");
}

#[test]
fn inspect_prints_environment_container_and_limits() {
    let file = File::new(ROUTES);
    let (code, out, _) = dcgi(&["inspect", "-v", "/p/x%20y?a=b", "-c", file.path()], b"");
    assert_eq!(code, 0, "{out}");
    for line in [
        "route      /p",
        "engine     docker",
        "command    /app/probe",
        "directory  /app",
        "isolation  fresh: each request has a container of its own",
        "  GREETING=hi",
        "  PATH_INFO=/x y",
        "  QUERY_STRING=a=b",
        "  SCRIPT_NAME=/p",
        "           memory 256.0 MiB",
    ] {
        assert!(out.lines().any(|found| found == line), "`{line}` is not in\n{out}");
    }
    let container: serde_json::Value = serde_json::from_str(&out[out.find("\n{").unwrap()..]).unwrap();
    assert_eq!(container["HostConfig"]["NetworkMode"], "none");
}

#[test]
fn inspect_and_check_show_what_a_shared_container_has_for_all_its_requests() {
    let file = File::new(
        &ROUTES.replace("env = { GREETING = \"hi\" }", "isolation = \"shared\"\nmax_concurrency = 3"),
    );
    let (code, out, _) = dcgi(&["inspect", "-v", "/p", "-c", file.path()], b"");
    assert_eq!(code, 0, "{out}");
    for line in [
        "isolation  shared: 1 of them; memory, cpus and pids are for all requests in one together",
        "           max_concurrency 3, queue 64",
        "           memory 768.0 MiB",
        "           cpus none, pids 384",
    ] {
        assert!(out.lines().any(|found| found == line), "`{line}` is not in\n{out}");
    }
    let container: serde_json::Value = serde_json::from_str(&out[out.find("\n{").unwrap()..]).unwrap();
    assert_eq!(container["HostConfig"]["Memory"], 768 << 20);
    assert_eq!(container["HostConfig"]["PidsLimit"], 384);
    let (_, out, _) = dcgi(&["check", "-c", file.path()], b"");
    assert!(
        out.lines().any(|line| line.trim_start().starts_with("/p ") && line.contains("768.0 MiB")),
        "{out}"
    );
}

#[test]
fn inspect_shows_the_engines_words_only_where_it_is_asked_to() {
    let file = File::new(ROUTES);
    let (code, out, _) = dcgi(&["inspect", "/p", "-c", file.path()], b"");
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("environment") && !out.contains("HostConfig"), "{out}");
}

#[test]
fn inspect_pulls_nothing_and_shows_what_is_known_without_the_image() {
    let file = File::new("engine = \"docker\"\n[[route]]\npath = \"/p\"\nimage = \"localhost:1/no/such\"\n");
    let (code, out, said) = dcgi(&["inspect", "/p/x", "-c", file.path()], b"");
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("pulling"), "{said}");
    for line in [
        "           it is not here: it is pulled when the route is first used",
        "command    (the image's)",
        "  PATH_INFO=/x",
        "           memory 256.0 MiB",
    ] {
        assert!(out.lines().any(|found| found == line), "`{line}` is not in\n{out}");
    }
}

#[test]
fn inspect_runs_nothing() {
    let file =
        File::new("engine = \"docker\"\n[[route]]\npath = \"/p\"\nimage = \"IMAGE\"\npull = \"never\"\n");
    let events = |since: &str| {
        let until = docker::docker(&["info", "--format", "{{.SystemTime}}"]);
        let filters = ["--filter", "event=create", "--filter", "label=dcgi.request=inspect"];
        let range = ["events", "--since", since.trim(), "--until", until.trim()];
        docker::docker(&[range.as_slice(), &filters].concat())
    };
    let since = docker::docker(&["info", "--format", "{{.SystemTime}}"]);
    let (code, ..) = dcgi(&["inspect", "/p", "-c", file.path()], b"");
    assert_eq!((code, events(&since).as_str()), (0, ""));
}

#[test]
fn inspect_of_a_path_without_route_says_so() {
    let file = File::new(ROUTES);
    let (code, _, said) = dcgi(&["inspect", "/nothing", "-c", file.path()], b"");
    assert_eq!((code, said.lines().last().unwrap()), (1, "dcgi: no route matches"));
}

#[test]
fn invoke_prints_what_a_client_would_get() {
    let file = File::new(ROUTES);
    let (code, out, _) = dcgi(&["invoke", "/p?text&print=served", "-c", file.path()], b"");
    assert_eq!((code, out.as_str()), (0, "served"));
    let (code, out, _) = dcgi(&["invoke", "-i", "/p?text&print=served", "-c", file.path()], b"");
    assert_eq!(code, 0);
    assert!(out.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"), "{out}");
    assert!(out.ends_with("\r\n\r\nserved"), "{out}");
}

#[test]
fn invoke_sends_method_headers_and_data() {
    let file = File::new(ROUTES);
    let url = "/p?text&env=REQUEST_METHOD&env=HTTP_X_A&env=CONTENT_LENGTH&echo";
    let (_, out, _) = dcgi(&["invoke", url, "-c", file.path(), "-H", "X-A: b", "-d", "a=b"], b"");
    assert_eq!(out, "=POST\n=b\n=3\na=b");
    let (_, out, _) = dcgi(&["invoke", url, "-c", file.path(), "-X", "PUT", "-d", "@-"], b"from a pipe");
    assert_eq!(out, "=PUT\nunset\n=11\nfrom a pipe");
}

#[test]
fn invoke_chooses_the_route_by_host() {
    let file = File::new(ROUTES);
    let (code, out, _) =
        dcgi(&["invoke", "http://example.org/filter", "-c", file.path(), "-d", "through"], b"");
    assert_eq!((code, out.as_str()), (0, "through"));
    let (code, ..) = dcgi(&["invoke", "http://example.net/filter", "-c", file.path()], b"");
    assert_eq!(code, 1);
}

#[test]
fn invoke_shows_why_a_program_fails_and_exits_with_1() {
    let file = File::new(ROUTES);
    let (code, out, _) = dcgi(&["invoke", "/p?err=what%20it%20is%0A&exit=3", "-c", file.path()], b"");
    assert_eq!(code, 1);
    assert!(out.contains("502 Bad Gateway") && out.contains("what it is"), "{out}");
}

#[test]
fn invoke_that_is_interrupted_leaves_no_container() {
    let file = File::new(
        "engine = \"docker\"\n[[route]]\npath = \"/interrupted\"\nimage = \"IMAGE\"\npull = \"never\"\n",
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_dcgi"))
        .args(["invoke", "/interrupted?forever", "-c", file.path()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let made = || docker::containers("dcgi.route=/interrupted");
    common::wait_until("the container exists", common::PATIENCE, || made() == 1);
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!((child.wait().unwrap().code(), made()), (Some(1), 0));
}

#[test]
fn a_server_that_still_waits_for_its_engine_can_be_ended() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = File::new(ROUTES);
    let mut child = Command::new(env!("CARGO_BIN_EXE_dcgi"))
        .args(["serve", "-c", file.path()])
        .env("DOCKER_HOST", format!("tcp://{}", silent.local_addr().unwrap()))
        .spawn()
        .unwrap();
    let _connection = silent.accept().unwrap();
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn invoke_leaves_no_container() {
    let file =
        File::new("engine = \"docker\"\n[[route]]\npath = \"/left\"\nimage = \"IMAGE\"\npull = \"never\"\n");
    let (code, ..) = dcgi(&["invoke", "/left?text", "-c", file.path()], b"");
    assert_eq!((code, docker::containers("dcgi.route=/left")), (0, 0));
}

/// Runs `dcgi run` with the probe's image and these steps, has `/any/path` answered, and ends it.
fn run_once(options: &[&str], steps: &str) -> common::Response {
    let arguments =
        [&["run", docker::probe_image(), "--engine", "docker"], options, &["--", "do", steps]].concat();
    served_once(&arguments, "/any/path", |_| {})
}

#[test]
fn run_serves_one_image_at_the_root() {
    let response = run_once(&["-e", "GREETING=hi"], "text&env=GREETING&env=PATH_INFO");
    assert_eq!((response.status, response.text().as_str()), (200, "=hi\n=/any/path\n"));
}

#[test]
fn run_takes_volumes_a_user_and_memory_as_docker_does() {
    let folder = unique_path("volume");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("file"), "through the volume").unwrap();
    let volume = format!("{}:/data:ro", folder.display());
    let options = ["-v", &volume, "--user", "1000:1001", "--memory", "64m", "-e", "PATH"];
    let response = run_once(&options, "text&file=/data/file&file=/proc/self/status&env=PATH");
    std::fs::remove_dir_all(&folder).unwrap();
    let text = response.text();
    assert!(text.starts_with("through the volume"), "{text}");
    assert!(text.contains("Uid:\t1000\t1000") && text.contains("Gid:\t1001\t1001"), "{text}");
    assert!(text.contains(&format!("={}\n", std::env::var("PATH").unwrap())), "{text}");
}

#[test]
fn run_says_what_an_option_should_have_been() {
    for (options, why) in [
        (["-v", "data:relative"], "an absolute path in the container"),
        (["--memory", "lots"], "expected a size such as 512m"),
        (["--user", "a b"], "expected a user such as"),
        (["-e", "=b"], "expected NAME=VALUE"),
    ] {
        let (code, _, said) = dcgi(&[&["run", "image"], &options[..]].concat(), b"");
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn run_shows_why_a_program_fails() {
    let page = run_once(&[], "err=a <reason>&exit=3");
    assert_eq!(page.status, 502);
    assert!(page.text().contains("the program printed nothing (exit status 3)"), "{}", page.text());
    assert!(page.text().contains("a &lt;reason&gt;"), "{}", page.text());
}

#[test]
fn run_serves_a_filter() {
    let response = run_once(&["--raw", "--content-type", "text/x-y"], "print=as it is");
    assert_eq!((response.header("content-type"), response.text().as_str()), (Some("text/x-y"), "as it is"));
}

#[test]
fn an_unknown_subcommand_is_the_command_lines_error() {
    let (code, _, said) = dcgi(&["sreve"], b"");
    assert_eq!(code, 2);
    assert!(said.contains("serve"), "{said}");
}

#[test]
fn the_version_names_a_commit_of_the_repository_that_it_was_built_in() {
    let here = env!("CARGO_MANIFEST_DIR");
    let (_, said, _) = dcgi(&["--version"], b"");
    let version = format!("dcgi {}", env!("CARGO_PKG_VERSION"));
    let commit = said.strip_prefix(&version).unwrap().trim();
    let git = |arguments: &[&str]| {
        #[allow(clippy::disallowed_methods)]
        let output = Command::new("git").args(["-C", here]).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    match git(&["rev-parse", "HEAD"]) {
        (true, head) => {
            assert_eq!(build_script::commit(here.as_ref()).as_deref(), Some(&head[..12]));
            let named = commit.strip_prefix('(').and_then(|commit| commit.strip_suffix(')')).unwrap();
            // While it is developed, what came after it is built in too.
            let named = named.trim_end_matches('+');
            assert!(named.len() == 12 && git(&["cat-file", "-e", named]).0, "{said}");
        }
        // A package that was unpacked somewhere.
        (false, _) => assert!(commit.is_empty() || build_script::commit(here.as_ref()).is_some(), "{said}"),
    }
}

#[test]
fn a_package_has_the_commit_that_cargo_has_noted_and_not_that_of_a_repository_around_it() {
    // Below target/, which is in the repository.
    let package = unique_path("package");
    std::fs::create_dir_all(&package).unwrap();
    assert_eq!(build_script::commit(&package), None);
    let noted = "{\n  \"git\": {\n    \"sha1\": \"0123456789abcdef0123456789abcdef01234567\"\n  },\n  \"path_in_vcs\": \"\"\n}";
    std::fs::write(package.join(".cargo_vcs_info.json"), noted).unwrap();
    assert_eq!(build_script::commit(&package).as_deref(), Some("0123456789ab"));
    std::fs::remove_dir_all(&package).unwrap();
}

// === what is made from the command line's own description ===

#[test]
fn help_lists_every_command_by_what_it_is_for() {
    let (code, out, _) = dcgi(&["--help"], b"");
    assert_eq!(code, 0);
    let at = |text: &str| out.find(text).unwrap_or_else(|| panic!("`{text}` is not in\n{out}"));
    let order = [
        "\nServe:",
        "\n  serve ",
        "\n  run ",
        "\nConfigure and look:",
        "\n  init ",
        "\n  check ",
        "\nImages:",
        "\n  image ",
    ];
    assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{out}");
    assert!(out.contains("--log-format"), "{out}");
    assert!(!out.contains("demo-page"), "{out}");
}

#[test]
fn completions_are_a_script_that_its_shell_can_read() {
    let (code, script, _) = dcgi(&["completions", "bash"], b"");
    assert_eq!(code, 0);
    // bash completes `dcgi im`, and the options of a command.
    let ask = "\nCOMP_WORDS=(dcgi im); COMP_CWORD=1; _dcgi dcgi im dcgi; echo \"${COMPREPLY[@]}\"\n\
               COMP_WORDS=(dcgi check --im); COMP_CWORD=2; _dcgi dcgi --im check; echo \"${COMPREPLY[@]}\"\n";
    let (succeeded, said) =
        common::piped(Command::new("bash").arg("-s"), format!("{script}{ask}").as_bytes());
    assert!(succeeded, "{said}");
    assert_eq!(said, "image\n--images\n");
    for shell in ["zsh", "fish"] {
        let (code, script, _) = dcgi(&["completions", shell], b"");
        assert!(code == 0 && script.contains("inspect"), "{script}");
    }
    assert_eq!(dcgi(&["completions", "tcsh"], b"").0, 2);
}

#[test]
fn man_prints_a_page_for_each_command() {
    let (code, page, _) = dcgi(&["man"], b"");
    assert_eq!(code, 0);
    assert!(page.contains(".TH dcgi 1") && page.contains("dcgi\\-serve(1)"), "{page}");
    let (code, page, _) = dcgi(&["man", "image", "pull"], b"");
    assert_eq!(code, 0);
    assert!(page.contains(".TH dcgi-image-pull 1"), "{page}");
    let (code, _, said) = dcgi(&["man", "nothing"], b"");
    assert_eq!(code, 1);
    assert!(said.contains("`dcgi` has no command `nothing`; it has serve, run"), "{said}");
    let folder = unique_path("man");
    std::fs::create_dir_all(&folder).unwrap();
    let (code, _, said) = dcgi(&["man", "--to", folder.to_str().unwrap()], b"");
    assert_eq!(code, 0, "{said}");
    for page in ["dcgi.1", "dcgi-serve.1", "dcgi-image-pull.1"] {
        assert!(folder.join(page).exists(), "{page}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

// === dcgi init ===

#[test]
fn init_writes_a_file_that_works_and_touches_none_that_is_there() {
    let path = unique_path("init.toml");
    let name = path.to_str().unwrap();
    let (code, out, said) = dcgi(&["init", name], b"");
    assert_eq!(code, 0, "{said}");
    assert!(out.contains(&format!("wrote {name}")), "{out}");
    let (code, _, said) = dcgi(&["check", "-c", name], b"");
    assert_eq!(code, 0, "{said}");
    let (code, out, said) = dcgi(&["invoke", "/hello", "-c", name], b"");
    assert_eq!((code, out.as_str()), (0, "Hello, you asked for /hello\n"), "{said}");
    std::fs::write(&path, "mine").unwrap();
    let (code, _, said) = dcgi(&["init", name], b"");
    assert_eq!(code, 1);
    assert!(said.contains("is there already, and stays as it is"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn what_init_has_commented_out_is_what_holds_anyway() {
    let (code, text, _) = dcgi(&["init", "-"], b"");
    assert_eq!(code, 0);
    // All keys of the server and of [defaults], and none of the further routes.
    let keys = text.split("# A first route").next().unwrap();
    let written = uncommented(keys);
    let route = "[[route]]\npath = \"/x\"\nimage = \"i\"\n";
    let parse = |text: String| dcgi::config::Config::parse(&text, "dcgi.toml".as_ref()).unwrap();
    assert_eq!(parse(format!("{written}{route}")), parse(route.to_owned()));
    // Those parse too.
    assert_eq!(parse(uncommented(&text)).routes.len(), 3);
}

/// A file with all of its keys: those that stand behind a # without a blank.
fn uncommented(text: &str) -> String {
    let is_key = |line: &&str| !line.is_empty() && !line.starts_with(' ');
    let key =
        |line: &'_ str| line.strip_prefix('#').filter(is_key).map(str::to_owned).unwrap_or(line.to_owned());
    text.lines().map(|line| key(line) + "\n").collect()
}

#[test]
fn the_log_can_be_json() {
    let file = File::new(ROUTES);
    let (_, _, said) = dcgi(&["invoke", "/p?text", "-c", file.path(), "--log-format", "json"], b"");
    let access =
        said.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON line"));
    let access: Vec<_> = access.filter(|event| event["target"] == "dcgi::access").collect();
    assert_eq!(access.len(), 1);
    assert_eq!(access[0]["status"], 200);
    assert_eq!(access[0]["method"], "GET");
}
