//! How programs that others have written end: on this machine's own files, each request in a fresh container.

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::embedded::Store;
use common::processes::{descendants, variables_of};
use common::{PATIENCE, Server, wait_until};
use tempfile::TempDir;

/// Who programs run as on this machine, where nobody says: `www-data`.
const WWW_DATA: u32 = 33;

/// A route on this machine's files, with a folder of its own.
struct Site {
    folder: TempDir,
    server: Server,
    _store: Store,
}

impl Site {
    /// `prepare` fills the folder, which programs have as `/srv` and may write to; `lines` are the rest of the route.
    fn new(prepare: impl FnOnce(&Path), lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        give_away(folder.path());
        let store = Store::new();
        let server = store.serve(&format!(
            "[[route]]\npath = \"/x\"\nrootfs = \"/\"\nvolumes = [\"{}:/srv\"]\n{lines}\n",
            folder.path().display()
        ));
        Self { folder, server, _store: store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    #[track_caller]
    fn wait_until_gone(&self) {
        let runs = |pid: &u32| variables_of(*pid).contains("REQUEST_ID=");
        wait_until("nothing runs any more", PATIENCE, || !descendants(self.server.pid()).iter().any(runs));
    }
}

/// Has everything below a path belong to those whom programs run as.
fn give_away(path: &Path) {
    chown(path, Some(WWW_DATA), Some(WWW_DATA)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[track_caller]
#[allow(clippy::disallowed_methods)]
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let said = [&*output.stdout, &*output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
    String::from_utf8_lossy(&said).into_owned()
}

// === shells ===

#[test]
fn a_script_that_filters_its_own_output_gives_the_whole_page() {
    let site = Site::new(
        |folder| {
            script(
                &folder.join("filter.cgi"),
                "#!/bin/bash\nexec > >(sed s/x/y/)\necho 'Content-Type: text/plain'\necho\n\
                 for i in 1 2 3 4 5 6 7 8; do echo \"x$i\"; done\n",
            );
        },
        "entrypoint = [\"/srv/filter.cgi\"]",
    );
    for _ in 0..60 {
        let response = site.server.get("/x");
        assert_eq!(
            (response.status, &*response.text(), response.complete),
            (200, "y1\ny2\ny3\ny4\ny5\ny6\ny7\ny8\n", true)
        );
    }
}

#[test]
fn a_line_in_the_background_belongs_to_the_page() {
    let site = Site::new(
        |folder| {
            script(
                &folder.join("two.cgi"),
                "#!/bin/sh\necho 'Content-Type: text/plain'\necho\necho first\n\
                 { sleep 0.05; echo second; } &\nexit 0\n",
            );
        },
        "entrypoint = [\"/srv/two.cgi\"]",
    );
    assert_eq!(site.server.get("/x").text(), "first\nsecond\n");
}

// === Perl ===

#[test]
fn a_program_that_holds_a_lock_removes_it_when_its_client_leaves() {
    let site = Site::new(
        |folder| {
            script(
                &folder.join("lock.cgi"),
                "#!/usr/bin/perl\n$| = 1;\nmy $lock = '/srv/lock';\nopen(my $file, '>', $lock) or die; close $file;\n\
                 for my $signal (qw(TERM PIPE HUP INT)) {\n    $SIG{$signal} = sub {\n\
                 open(my $log, '>>', '/srv/log'); print $log \"got $signal\\n\"; close $log; unlink $lock; exit 1 }\n}\n\
                 print \"Content-Type: text/plain\\n\\nbegun\\n\";\nsleep 600;\n",
            );
        },
        "entrypoint = [\"/srv/lock.cgi\"]\ntimeout = \"10m\"\nidle_timeout = \"10m\"",
    );
    let mut connection = site.server.connect();
    connection.send("GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    assert!(site.path("lock").exists());
    drop(connection);
    wait_until("the lock is gone", Duration::from_secs(10), || !site.path("lock").exists());
    assert_eq!(fs::read_to_string(site.path("log")).unwrap(), "got TERM\n");
    site.wait_until_gone();
}

#[test]
fn a_process_that_has_become_another_user_does_not_outlive_its_request() {
    let site = Site::new(
        |folder| {
            script(
                &folder.join("other.cgi"),
                "#!/usr/bin/perl\nuse POSIX;\n$| = 1;\nif (fork == 0) {\n    close STDOUT; close STDERR;\n\
                 POSIX::setuid(1234) or exit 3; open(my $file, '>', '/srv/other'); close $file; sleep 600; exit }\n\
                 sleep 1 until -e '/srv/other';\nprint \"Content-Type: text/plain\\n\\nbody\";\n",
            );
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        },
        "entrypoint = [\"/srv/other.cgi\"]\nuser = \"0:0\"\ncap_add = [\"SETUID\"]\nlinger = \"0s\"\n\
         kill_grace = \"0s\"\nmax_concurrency = 1",
    );
    assert_eq!(site.server.get("/x").text(), "body");
    site.wait_until_gone();
}

// === fossil ===

#[test]
fn a_fossil_repository_has_its_backoffice_after_the_page() {
    let fossil = |folder: &Path| {
        let mut command = Command::new("fossil");
        command.current_dir(folder).env("HOME", folder).env("USER", "ada");
        command
    };
    let site = Site::new(
        |folder| {
            run(fossil(folder).args(["new", "demo.fossil"]));
            script(&folder.join("repository.cgi"), "#!/usr/bin/fossil\nrepository: /srv/demo.fossil\n");
        },
        "entrypoint = [\"/srv/repository.cgi\"]\nlinger = \"3s\"\nenv = { HOME = \"/srv\" }",
    );
    // It sees to its backoffice behind the pages that it gives to people.
    let browser = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
    let ask = |path: &str| {
        site.server
            .send(format!("GET /x{path} HTTP/1.1\r\nHost: h\r\n{browser}\r\nConnection: close\r\n\r\n"))
    };
    for _ in 0..3 {
        for path in ["/login", "/stat"] {
            let response = ask(path);
            assert_eq!((response.status, response.complete), (200, true), "{}", response.text());
        }
    }
    site.wait_until_gone();
    assert!(!site.path("demo.fossil-journal").exists(), "a transaction was cut");
    let sql = |query: &str| run(fossil(site.folder.path()).args(["sql", "-R", "demo.fossil", query]));
    assert_eq!(sql("PRAGMA repository.integrity_check").trim(), "'ok'");
    let lease = sql("SELECT value FROM repository.config WHERE name = 'backoffice'");
    assert!(lease.split_ascii_whitespace().count() >= 4, "no backoffice has run: {lease}");
}

// === git ===

#[test]
fn a_push_whose_client_is_killed_while_refs_are_locked_leaves_no_lock() {
    let site = Site::new(
        |folder| {
            run(Command::new("git").current_dir(folder).args(["init", "--quiet", "--bare", "demo.git"]));
            // Between the lock on each ref and the change.
            script(
                &folder.join("demo.git/hooks/reference-transaction"),
                "#!/bin/sh\nif [ \"$1\" = prepared ] && [ -e /srv/hold ]; then touch /srv/held; sleep 600; fi\n",
            );
        },
        "entrypoint = [\"git\", \"http-backend\"]\ntimeout = \"10m\"\nidle_timeout = \"10m\"\nkill_grace = \"20s\"\n\
         env = { GIT_PROJECT_ROOT = \"/srv\", GIT_HTTP_EXPORT_ALL = \"1\", HOME = \"/srv\", GIT_CONFIG_COUNT = \"2\", \
         GIT_CONFIG_KEY_0 = \"http.receivepack\", GIT_CONFIG_VALUE_0 = \"true\", \
         GIT_CONFIG_KEY_1 = \"safe.directory\", GIT_CONFIG_VALUE_1 = \"*\" }",
    );
    let work = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(work.path()).args(["-c", "init.defaultBranch=main", "-c", "http.proxy="]);
        command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]).args(arguments);
        command.envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_TERMINAL_PROMPT", "0")]).env("HOME", work.path());
        command
    };
    run(&mut git(&["init", "--quiet"]));
    fs::write(work.path().join("file"), "text").unwrap();
    run(&mut git(&["add", "."]));
    run(&mut git(&["commit", "--quiet", "-m", "First"]));
    let url = format!("http://{}/x/demo.git", site.server.address);

    fs::write(site.path("hold"), "").unwrap();
    let mut push = git(&["push", "--quiet", &url, "HEAD:refs/heads/main"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    wait_until("the refs are locked", PATIENCE, || site.path("held").exists());
    assert!(site.path("demo.git/refs/heads/main.lock").exists());
    // git does its talking in a child: the whole group is killed.
    run(Command::new("kill").args(["-KILL", "--", &format!("-{}", push.id())]));
    push.wait().unwrap();
    site.wait_until_gone();
    assert!(!site.path("demo.git/refs/heads/main.lock").exists(), "the lock is still there");

    fs::remove_file(site.path("hold")).unwrap();
    run(&mut git(&["push", "--quiet", &url, "HEAD:refs/heads/main"]));
    let mut said = String::new();
    push.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(site.path("demo.git/refs/heads/main").exists(), "{said}");
}
