//! Directories of scripts: which one a path names, and what it is told.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, mkfifoat};

use super::common::embedded::compiled;
use super::common::server::unique_path;
use super::{Server, cases};

cases! {
    a_path_names_a_script_and_the_rest_is_its_path_info,
    a_directory_has_its_index_and_its_slash,
    what_is_no_script_is_not_there,
    what_may_not_be_had_is_forbidden,
    a_name_that_ends_so_has_its_handler,
    a_script_that_is_put_there_is_served_and_one_that_is_removed_is_not,
    a_body_comes_to_a_script,
    what_is_in_a_scripts_way_is_told,
    a_directory_that_is_gone_is_502_until_it_is_back,
    a_local_redirect_leads_to_another_script,
    a_script_works_in_the_directory_that_is_there_now,
    a_directory_of_the_image_is_served_as_it_was_installed,
}

/// A directory of scripts, each of them the probe, and a server with it at /cgi-bin.
struct Place {
    server: Server,
    directory: PathBuf,
}

impl Place {
    fn new(server: &Server, more: &str) -> Self {
        let directory = unique_path("scripts");
        fs::create_dir(&directory).unwrap();
        fs::create_dir(directory.join("sub")).unwrap();
        for folder in [directory.clone(), directory.join("sub")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for script in ["a.cgi", "sub/b.cgi"] {
            put(&directory.join(script));
        }
        let route = format!(
            "[[route]]\npath = \"/cgi-bin\"\nimage = \"IMAGE\"\npull = \"never\"\nscripts = \"{}\"\n{}\n{more}\n",
            directory.display(),
            server.containers_line()
        );
        Self { server: server.beside(&route, |_| {}), directory }
    }

    #[track_caller]
    fn answers(&self, path: &str, expected: &str) {
        let response = self.server.get(path);
        assert_eq!(
            (response.status, response.text()),
            (200, expected.into()),
            "{path}\n{}",
            self.server.log()
        );
    }

    #[track_caller]
    fn refuses(&self, path: &str, status: u16) {
        let response = self.server.get(path);
        assert_eq!(response.status, status, "{path}: {}", response.text());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.directory);
    }
}

/// Puts the probe at a path, as a script that everybody may execute.
fn put(path: &Path) {
    fs::copy(compiled("probe.rs"), path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn a_path_names_a_script_and_the_rest_is_its_path_info(server: &Server) {
    let place = Place::new(server, "");
    let directory = place.directory.display();
    let asked = "text&env=SCRIPT_NAME&env=PATH_INFO&env=SCRIPT_FILENAME&env=REQUEST_URI&cwd&args";
    for (path, name, info) in [
        ("/cgi-bin/a.cgi", "/a.cgi", "unset"),
        ("/cgi-bin/a.cgi/", "/a.cgi", "=/"),
        ("/cgi-bin/sub/b.cgi/x%20y//z", "/sub/b.cgi", "=/x y//z"),
        ("/cgi-bin//sub/../sub//b.cgi", "/sub/b.cgi", "unset"),
    ] {
        let folder = if name.starts_with("/sub") { "/sub" } else { "" };
        let expected = format!(
            "=/cgi-bin{name}\n{info}\n={directory}{name}\n={path}?{asked}\n{directory}{folder}\n{directory}{name}\n"
        );
        place.answers(&format!("{path}?{asked}"), &expected);
    }
}

fn a_directory_has_its_index_and_its_slash(server: &Server) {
    let place = Place::new(server, "index = [\"none.cgi\", \"b.cgi\"]");
    place.answers("/cgi-bin/sub/?text&env=SCRIPT_NAME&env=PATH_INFO", "=/cgi-bin/sub/b.cgi\nunset\n");
    for (path, location) in [
        ("/cgi-bin", "/cgi-bin/"),
        ("/cgi-bin/sub?a=b&c", "/cgi-bin/sub/?a=b&c"),
        // The directory's own path, or it would be another host's.
        ("//cgi-bin//sub", "/cgi-bin/sub/"),
    ] {
        let response = place.server.get(path);
        assert_eq!((response.status, response.header("location")), (301, Some(location)), "{path}");
    }
    place.refuses("/cgi-bin/", 403);
    // As with Apache, what is put behind a directory's slash is a name in it.
    place.refuses("/cgi-bin/sub/none", 404);
}

fn what_is_no_script_is_not_there(server: &Server) {
    let place = Place::new(server, "");
    for name in [".hidden.cgi", "a.cgi~", "a.cgi.bak", "#a.cgi#", "A.CGI.Orig"] {
        put(&place.directory.join(name));
    }
    for path in [
        "/cgi-bin/none",
        "/cgi-bin/none/x",
        "/cgi-bin/a.cg",
        "/cgi-bin/A.cgi",
        "/cgi-bin/a.cgi%20",
        "/cgi-bin/a.cgi.",
        "/cgi-bin/.hidden.cgi",
        "/cgi-bin/a.cgi~",
        "/cgi-bin/a.cgi.bak",
        "/cgi-bin/%23a.cgi%23",
        "/cgi-bin/A.CGI.Orig",
        "/cgi-bin/..%5ca.cgi",
        "/cgi-bin/%ff.cgi",
        "/cgi-bin/../a.cgi",
        "/cgi-bin/%2e%2e/%2e%2e/etc/passwd",
        "/cgi-bin/sub%2f..%2f..%2fetc/passwd",
        "/cgi-bins/a.cgi",
    ] {
        place.refuses(path, 404);
    }
    place.refuses("/cgi-bin/a.cgi%00", 400);
    // An encoded slash is one, as in every path here.
    place.answers("/cgi-bin/sub%2fb.cgi?text&env=SCRIPT_NAME", "=/cgi-bin/sub/b.cgi\n");
}

fn what_may_not_be_had_is_forbidden(server: &Server) {
    let place = Place::new(server, "");
    mkfifoat(CWD, place.directory.join("fifo"), Mode::from_raw_mode(0o666)).unwrap();
    symlink("loop", place.directory.join("loop")).unwrap();
    symlink("/proc/self/root/bin/sh", place.directory.join("magic")).unwrap();
    symlink("sub/b.cgi", place.directory.join("link.cgi")).unwrap();
    for path in ["/cgi-bin/fifo", "/cgi-bin/loop", "/cgi-bin/magic", "/cgi-bin/", "/cgi-bin/sub/"] {
        place.refuses(path, 403);
    }
    place.refuses(&format!("/cgi-bin/{}", "x".repeat(300)), 403);
    place.answers("/cgi-bin/link.cgi?text&env=SCRIPT_NAME", "=/cgi-bin/link.cgi\n");
}

fn a_name_that_ends_so_has_its_handler(server: &Server) {
    let place = Place::new(server, "handlers = { \".PL\" = [\"/app/probe\", \"with\"], \".cgi\" = [] }");
    let directory = place.directory.display().to_string();
    fs::write(place.directory.join("x.pl"), "no program").unwrap();
    fs::write(place.directory.join("Y.PL"), "no program").unwrap();
    for name in ["x.pl", "Y.PL"] {
        place.answers(
            &format!("/cgi-bin/{name}/info?text&args&env=SCRIPT_FILENAME&env=PATH_INFO"),
            &format!("/app/probe\nwith\n{directory}/{name}\n={directory}/{name}\n=/info\n"),
        );
    }
    place.answers("/cgi-bin/a.cgi?text&args", &format!("{directory}/a.cgi\n"));
    // The last ending counts.
    put(&place.directory.join("x.pl.cgi"));
    place.answers("/cgi-bin/x.pl.cgi?text&args", &format!("{directory}/x.pl.cgi\n"));
}

fn a_script_that_is_put_there_is_served_and_one_that_is_removed_is_not(server: &Server) {
    let place = Place::new(server, "");
    place.refuses("/cgi-bin/new.cgi", 404);
    // A container waits by now, made before the script was.
    place.answers("/cgi-bin/a.cgi?text&print=a", "a");
    put(&place.directory.join("new.cgi"));
    place.answers("/cgi-bin/new.cgi?text&print=new", "new");
    fs::remove_file(place.directory.join("new.cgi")).unwrap();
    place.refuses("/cgi-bin/new.cgi", 404);
}

fn a_body_comes_to_a_script(server: &Server) {
    let place = Place::new(server, "");
    let response = place.server.connect().post("/cgi-bin/sub/b.cgi/x?text&echo", "the body");
    assert_eq!((response.status, response.text()), (200, "the body".into()));
}

fn what_is_in_a_scripts_way_is_told(server: &Server) {
    let place = Place::new(server, "");
    let script = |name: &str, text: &str, mode| {
        fs::write(place.directory.join(name), text).unwrap();
        fs::set_permissions(place.directory.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    script("no-bit.cgi", "#!/app/probe\n", 0o644);
    script("crlf.cgi", "#!/app/probe\r\n", 0o755);
    script("no-interpreter.cgi", "#!/usr/bin/none\n", 0o755);
    script("no-line.cgi", "print 1\n", 0o755);
    for (name, why) in [
        ("no-bit.cgi", "`chmod a+rx`"),
        ("crlf.cgi", "CRLF"),
        ("no-interpreter.cgi", "interpreter"),
        ("no-line.cgi", "`#!`"),
    ] {
        let response = place.server.get(&format!("/cgi-bin/{name}"));
        assert_eq!(response.status, 502, "{name}");
        let line = place.server.wait_for_log_of(response.id(), why);
        assert!(line.contains(name), "{line}");
    }
}

fn a_directory_that_is_gone_is_502_until_it_is_back(server: &Server) {
    let place = Place::new(server, "");
    place.answers("/cgi-bin/a.cgi?text&print=a", "a");
    let aside = place.directory.with_extension("aside");
    fs::rename(&place.directory, &aside).unwrap();
    let response = place.server.get("/cgi-bin/a.cgi");
    assert_eq!(response.status, 502);
    let line = place.server.wait_for_log_of(response.id(), "cannot be opened");
    assert!(line.contains(place.directory.to_str().unwrap()), "{line}");
    fs::rename(&aside, &place.directory).unwrap();
    place.answers("/cgi-bin/a.cgi?text&print=again", "again");
}

fn a_script_works_in_the_directory_that_is_there_now(server: &Server) {
    let place = Place::new(server, "");
    // Often enough that each process of a shared container has been there.
    for turn in 0..2 {
        let marker = format!("turn {turn}");
        fs::write(place.directory.join("sub/marker"), &marker).unwrap();
        for _ in 0..3 {
            place.answers("/cgi-bin/sub/b.cgi?text&file=marker", &marker);
        }
        // As who unpacks a new release does it.
        fs::rename(place.directory.join("sub"), place.directory.join("before")).unwrap();
        fs::create_dir(place.directory.join("sub")).unwrap();
        fs::set_permissions(place.directory.join("sub"), fs::Permissions::from_mode(0o755)).unwrap();
        put(&place.directory.join("sub/b.cgi"));
        fs::remove_dir_all(place.directory.join("before")).unwrap();
    }
}

fn a_local_redirect_leads_to_another_script(server: &Server) {
    let place = Place::new(server, "");
    place.answers(
        "/cgi-bin/a.cgi?print=Location:%20/cgi-bin/sub/b.cgi/to%3ftext%26env=PATH_INFO%0a%0a",
        "=/to\n",
    );
}

fn a_directory_of_the_image_is_served_as_it_was_installed(server: &Server) {
    let route = |path: &str, directory: &str, more: &str| {
        format!(
            "[[route]]\npath = \"{path}\"\nimage = \"IMAGE-of-scripts\"\npull = \"never\"\nscripts = \"image:{directory}\"\n{}\n{more}\n",
            server.containers_line()
        )
    };
    let routes = route("/cgi-bin", "/usr/lib/cgi-bin", "index = [\"b.cgi\"]")
        + &route("/linked", "/srv/cgi-bin", "handlers = { \".cgi\" = [\"/app/probe\"] }")
        + &route("/none", "/usr/none", "");
    let server = server.beside(&routes, |_| {});
    let asked = "text&env=SCRIPT_NAME&env=PATH_INFO&env=SCRIPT_FILENAME&cwd&args";
    for (path, name, info) in [
        ("/cgi-bin/a.cgi", "/a.cgi", "unset"),
        ("/cgi-bin/sub/b.cgi/x%20y//z", "/sub/b.cgi", "=/x y//z"),
        ("/cgi-bin/sub/", "/sub/b.cgi", "unset"),
        // By two links out of the directory, and by one that is a directory.
        ("/cgi-bin/link.cgi/i", "/link.cgi", "=/i"),
        ("/cgi-bin/more/m.cgi", "/more/m.cgi", "unset"),
    ] {
        let file = format!("/usr/lib/cgi-bin{name}");
        // Where a link leads, there the program works.
        let folder = match name.rsplit_once('/').unwrap().0 {
            "/more" => "/usr/share/more".to_owned(),
            folder => format!("/usr/lib/cgi-bin{folder}"),
        };
        let response = server.get(&format!("{path}?{asked}"));
        let expected = format!("=/cgi-bin{name}\n{info}\n={file}\n{folder}\n{file}\n");
        assert_eq!((response.status, &*response.text()), (200, &*expected), "{path}\n{}", server.log());
    }
    let response = server.get("/linked/a.cgi?text&env=SCRIPT_FILENAME&args");
    assert_eq!(response.text(), "=/srv/cgi-bin/a.cgi\n/app/probe\n/srv/cgi-bin/a.cgi\n");
    for (path, status) in [
        ("/cgi-bin/sub", 301),
        ("/cgi-bin/", 403),
        ("/cgi-bin/none.cgi", 404),
        ("/cgi-bin/.hidden.cgi", 404),
        ("/cgi-bin/a.cgi~", 404),
        ("/cgi-bin/gone.cgi", 404),
        ("/cgi-bin/%2e%2e/%2e%2e/app/probe", 404),
        ("/cgi-bin/loop.cgi", 403),
        ("/cgi-bin/copy.cgi", 403),
        ("/none/a.cgi", 502),
    ] {
        assert_eq!(server.get(path).status, status, "{path}\n{}", server.log());
    }
    server.wait_for_log("/usr/none");
}
