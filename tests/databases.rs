//! Databases by `connect`: real servers outside of the container, and the clients of Perl, PHP and Python in it, which have no
//! network. All are Debian's, from the packages' root file system.

mod common;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};

use common::embedded::Store;
use common::packages::{ROOT, Volumes};
use common::{PATIENCE, Server, wait_until};
use tempfile::TempDir;

/// Each makes a table of its own that ends with its connection, puts a text into it as a parameter, and prints what it reads.
const SCRIPTS: &[(&str, &str)] = &[
    (
        "dbi-mysql.pl",
        r#"use strict; use utf8; use DBI;
my $db = DBI->connect("dbi:mysql:database=test;host=127.0.0.1", "app", "secret",
    { RaiseError => 1, mysql_enable_utf8mb4 => 1 });
$db->do("CREATE TEMPORARY TABLE guests (name VARCHAR(99)) CHARACTER SET utf8mb4");
$db->do("INSERT INTO guests VALUES (?)", undef, "Zoë ' --");
binmode STDOUT, ":utf8";
print "Content-Type: text/plain\n\n", $db->selectrow_array("SELECT name FROM guests"), "\n";
"#,
    ),
    (
        "dbi-pg.pl",
        r#"use strict; use utf8; use DBI;
my $db = DBI->connect("dbi:Pg:dbname=postgres;host=127.0.0.1", "app", "secret", { RaiseError => 1 });
$db->do("CREATE TEMPORARY TABLE guests (name text)");
$db->do("INSERT INTO guests VALUES (?)", undef, "Zoë ' --");
binmode STDOUT, ":utf8";
print "Content-Type: text/plain\n\n", $db->selectrow_array("SELECT name FROM guests"), "\n";
"#,
    ),
    (
        "mysqli.php",
        r#"<?php
header("Content-Type: text/plain");
$db = new mysqli("127.0.0.1", "app", "secret", "test");
$db->set_charset("utf8mb4");
$db->query("CREATE TEMPORARY TABLE guests (name VARCHAR(99)) CHARACTER SET utf8mb4");
$name = "Zoë ' --";
$put = $db->prepare("INSERT INTO guests VALUES (?)");
$put->bind_param("s", $name);
$put->execute();
echo $db->query("SELECT name FROM guests")->fetch_row()[0], "\n";
"#,
    ),
    // By a socket, where the client looks for one.
    (
        "mysqli-socket.php",
        r#"<?php
header("Content-Type: text/plain");
$db = new mysqli("localhost", "app", "secret", "test");
echo $db->query("SELECT 'Zoë \\' --'")->fetch_row()[0], "\n";
"#,
    ),
    (
        "pdo-mysql.php",
        r#"<?php
header("Content-Type: text/plain");
$db = new PDO("mysql:host=127.0.0.1;dbname=test;charset=utf8mb4", "app", "secret");
$db->exec("CREATE TEMPORARY TABLE guests (name VARCHAR(99)) CHARACTER SET utf8mb4");
$db->prepare("INSERT INTO guests VALUES (?)")->execute(["Zoë ' --"]);
echo $db->query("SELECT name FROM guests")->fetchColumn(), "\n";
"#,
    ),
    (
        "pdo-pgsql.php",
        r#"<?php
header("Content-Type: text/plain");
$db = new PDO("pgsql:host=127.0.0.1;dbname=postgres", "app", "secret");
$db->exec("CREATE TEMPORARY TABLE guests (name text)");
$db->prepare("INSERT INTO guests VALUES (?)")->execute(["Zoë ' --"]);
echo $db->query("SELECT name FROM guests")->fetchColumn(), "\n";
"#,
    ),
    (
        "python.py",
        r#"import psycopg, sys
with psycopg.connect("host=127.0.0.1 dbname=postgres user=app password=secret") as db:
    db.execute("CREATE TEMPORARY TABLE guests (name text)")
    db.execute("INSERT INTO guests VALUES (%s)", ["Zoë ' --"])
    name, = db.execute("SELECT name FROM guests").fetchone()
sys.stdout.buffer.write(f"Content-Type: text/plain\n\n{name}\n".encode())
"#,
    ),
    (
        "python-socket.py",
        r#"import psycopg, sys
with psycopg.connect("host=/run/postgresql dbname=postgres user=app password=secret") as db:
    name, = db.execute("SELECT %s", ["Zoë ' --"]).fetchone()
sys.stdout.buffer.write(f"Content-Type: text/plain\n\n{name}\n".encode())
"#,
    ),
];

const ANSWER: &str = "Zoë ' --\n";

/// A server in the packages' root file system. Ended on drop, with all that is in its PID namespace.
struct Daemon(Child);

impl Daemon {
    fn start(volumes: &Volumes, command: &[&str]) -> Self {
        let mut inside = volumes.command();
        // Who ends with `unshare` is root's shell: a change of user loses the signal by which that is told, prctl(2).
        let run = "setpriv --reuid=www-data --regid=www-data --clear-groups -- \"$@\" & wait";
        inside.args(["sh", "-c", run, "sh"]).args(command);
        Self(inside.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("unshare runs"))
    }

    /// PostgreSQL over its data, at a port. What one before has left that was killed is removed.
    fn postgres(volumes: &Volumes, port: u16) -> Self {
        let run = "rm -f /srv/postgres/postmaster.pid /run/.s.PGSQL.*
             exec /usr/lib/postgresql/*/bin/postgres -D /srv/postgres -k /run -c fsync=off \
                -c listen_addresses=127.0.0.1 -p \"$0\"";
        Self::start(volumes, &["sh", "-c", run, &port.to_string()])
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Both databases, each at a port of its own and at a socket in `/run`, with a user `app`.
struct Databases {
    mysql: u16,
    postgres: u16,
    /// MariaDB's, and PostgreSQL's.
    daemons: [Daemon; 2],
    volumes: Volumes,
}

impl Databases {
    fn start() -> Self {
        let volumes = Volumes::new(&["/srv", "/run"]);
        volumes.shell(
            "mariadb-install-db --no-defaults --force --datadir=/srv/mysql --skip-test-db >/dev/null
             for statement in 'CREATE DATABASE test' 'GRANT ALL ON test.* TO app@localhost IDENTIFIED BY \"secret\"'; do
                echo \"$statement;\"
             done >/srv/users.sql
             echo secret >/srv/password
             /usr/lib/postgresql/*/bin/initdb -D /srv/postgres -U app --pwfile=/srv/password --auth=scram-sha-256 \\
                -E UTF8 --no-sync >/dev/null",
            &[],
        );
        let [mysql, postgres] = [(); 2].map(|()| {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        });
        let daemons = [
            Daemon::start(
                &volumes,
                &[
                    "mariadbd",
                    "--no-defaults",
                    "--datadir=/srv/mysql",
                    "--socket=/run/mysql.sock",
                    "--bind-address=127.0.0.1",
                    // Statements of one line each.
                    "--init-file=/srv/users.sql",
                    "--pid-file=/run/mysql.pid",
                    &format!("--port={mysql}"),
                ],
            ),
            Daemon::postgres(&volumes, postgres),
        ];
        for port in [mysql, postgres] {
            let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
            wait_until("a database listens", PATIENCE, listens);
        }
        Self { mysql, postgres, daemons, volumes }
    }

    /// What a route needs to reach them where clients look for them.
    fn connect(&self) -> String {
        let socket = |name: &str| self.volumes.path(&format!("/run/{name}")).display().to_string();
        format!(
            "connect = [\"127.0.0.1:3306=127.0.0.1:{}\", \"127.0.0.1:5432=localhost:{}\", \
             \"unix:/run/mysqld/mysqld.sock=unix:{}\", \"unix:/run/postgresql/.s.PGSQL.5432=unix:{}\"]",
            self.mysql,
            self.postgres,
            socket("mysql.sock"),
            socket(&format!(".s.PGSQL.{}", self.postgres)),
        )
    }
}

fn scripts() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (name, text) in SCRIPTS {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn serve(store: &Store, scripts: &Path, more: &str) -> Server {
    store.serve(&format!(
        "[[route]]\npath = \"/\"\nrootfs = \"{ROOT}\"\nuser = \"www-data\"\nscripts = \"{}\"\n\
         handlers = {{ \".pl\" = [\"/usr/bin/perl\"], \".php\" = [\"/usr/bin/php-cgi\"], \".py\" = [\"/usr/bin/python3\"] }}\n\
         {more}\n",
        scripts.display()
    ))
}

#[test]
fn clients_of_every_language_reach_their_databases_and_nothing_else() {
    let databases = Databases::start();
    let scripts = scripts();
    let store = Store::new();
    for more in ["", "warm = 0", "isolation = \"shared\""] {
        let server = serve(&store, scripts.path(), &format!("{}\n{more}", databases.connect()));
        for (name, _) in SCRIPTS {
            let response = server.get(&format!("/{name}"));
            assert_eq!(response.status, 200, "{more} {name}: {}\n{}", response.text(), server.log());
            assert_eq!(response.text(), ANSWER, "{more} {name}: {}", server.log());
        }
    }
    // What is not named is not there, though it runs.
    let server = serve(&store, scripts.path(), "");
    for (name, _) in SCRIPTS {
        assert!(!server.get(&format!("/{name}")).text().contains(ANSWER.trim_end()), "{name}");
    }
}

#[test]
fn a_database_that_ends_and_comes_back_is_reached_again() {
    let mut databases = Databases::start();
    let scripts = scripts();
    let store = Store::new();
    let server = serve(&store, scripts.path(), &databases.connect());
    assert_eq!(server.get("/dbi-pg.pl").text(), ANSWER, "{}", server.log());
    let [_, postgres] = &mut databases.daemons;
    postgres.0.kill().unwrap();
    postgres.0.wait().unwrap();
    // Told to the script, which says so in its own words.
    assert_eq!(server.get("/dbi-pg.pl").status, 502);
    server.wait_for_log("cannot be reached");
    *postgres = Daemon::postgres(&databases.volumes, databases.postgres);
    wait_until("it is reached again", PATIENCE, || server.get("/dbi-pg.pl").text() == ANSWER);
    // The other was none of its business.
    assert_eq!(server.get("/dbi-mysql.pl").text(), ANSWER);
}
