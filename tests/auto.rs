//! `engine = "auto"`: which engine answers, seen from inside its container, while images come, move and go.
//!
//! Docker puts a file `/.dockerenv` into its containers; that is how a client sees here who has served it.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::docker::{self, PrivateEngine, docker};
use common::engine::import_probe_as;
use common::gate::Gate;
use common::server::unique_path;
use common::{Connection, PATIENCE, Response, Server, Under, wait_until};

/// How soon a route serves an image that was built anew.
const SOON: Duration = Duration::from_secs(2);

/// Who answers, and with which version of the image.
const WHO: &str = "/p?text&env=VERSION&file=/.dockerenv";

/// A store, and an image of Docker's under a name of its own.
struct Place {
    folder: PathBuf,
    image: String,
}

impl Place {
    fn new() -> Self {
        let folder = unique_path("auto");
        fs::create_dir_all(&folder).unwrap();
        let image = format!("dcgi-test/{}", folder.file_name().unwrap().to_str().unwrap().to_lowercase());
        Self { folder, image }
    }

    /// The same with this version of the image in Docker.
    fn with_image(version: &str) -> Self {
        let place = Self::new();
        place.build(version);
        place
    }

    fn build(&self, version: &str) {
        docker::probe_image();
        self.build_with(version, 0, &docker);
    }

    /// Builds it with a file that has so many MiB.
    fn build_with(&self, version: &str, mebibytes: usize, docker: &dyn Fn(&[&str]) -> String) {
        let context = self.folder.join("context");
        fs::create_dir_all(&context).unwrap();
        fs::write(context.join("weight"), vec![b'x'; mebibytes << 20]).unwrap();
        let text = format!("FROM {}\nENV VERSION={version}\nCOPY weight /weight\n", docker::PROBE);
        fs::write(context.join("Dockerfile"), text).unwrap();
        let _alone = changing_images();
        docker(&["build", "-q", "-t", &self.image, context.to_str().unwrap()]);
        fs::remove_dir_all(context).unwrap();
    }

    fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// Puts an image of this version into dcgi's own store under the same name.
    fn import(&self, version: &str) {
        let variable = format!("VERSION={version}");
        import_probe_as(&self.store(), &self.image, &["--env", &variable], |_| {});
    }

    /// A route of the image at `/p`.
    fn route(&self, more: &str) -> String {
        format!("[[route]]\npath = \"/p\"\nimage = \"{}\"\npull = \"never\"\n{more}\n", self.image)
    }

    fn serve(&self, more: &str) -> Server {
        self.serve_with(more, |_| {})
    }

    fn serve_with(&self, more: &str, change: impl FnOnce(&mut Command)) -> Server {
        let config = format!("engine = \"auto\"\n{}", self.route(more));
        Server::start_under(Under::Docker, &config, |command| {
            command.env("DCGI_STORE", self.store());
            change(command);
        })
    }

    /// The image alone, at `/`: by `dcgi run`, which reads no configuration.
    fn run(&self) -> Server {
        Server::start_under(Under::Docker, "", |command| {
            *command = Command::new(env!("CARGO_BIN_EXE_dcgi"));
            command.args(["run", &self.image, "-l", "127.0.0.1:0"]).stdin(Stdio::null());
            command.env("DCGI_STORE", self.store());
        })
    }

    /// With its Docker Engine behind a gate.
    fn serve_through(&self, gate: &Gate, more: &str) -> Server {
        self.serve_with(more, |command| {
            command.env("DOCKER_HOST", gate.host());
        })
    }

    /// What stands below the store's folders of this name.
    fn stored(&self, folder: &str) -> BTreeSet<String> {
        listed(&self.store().join(folder))
    }

    #[track_caller]
    fn has_nothing_unfinished(&self) {
        assert_eq!(self.stored("work"), BTreeSet::new());
        assert_eq!(self.stored("locks"), BTreeSet::new());
    }
}

impl Drop for Place {
    #[allow(clippy::disallowed_methods)]
    fn drop(&mut self) {
        let _alone = changing_images();
        _ = Command::new("docker").args(["image", "rm", "-f", &self.image]).output();
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// A build of Docker's fails where what it finds in its cache is removed meanwhile.
fn changing_images() -> MutexGuard<'static, ()> {
    static CHANGING: Mutex<()> = Mutex::new(());
    CHANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listed(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn own_engine() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into())
}

/// Who has answered, and from which version of the image.
#[track_caller]
fn who(response: &Response) -> (&'static str, String) {
    assert_eq!((response.status, response.complete), (200, true), "{}", response.text());
    let text = response.text();
    let (version, file) = text.split_once('\n').unwrap();
    let engine = if file.is_empty() { "docker" } else { "embedded" };
    (engine, version.trim_start_matches('=').to_owned())
}

#[track_caller]
fn served_by(server: &Server, engine: &str, version: &str) {
    let answer = server.get(WHO);
    assert_eq!(who(&answer), (if engine == "docker" { "docker" } else { "embedded" }, version.to_owned()));
}

/// Asks until this engine answers from this version.
#[track_caller]
fn wait_for(server: &Server, engine: &str, version: &str) {
    wait_until(&format!("{engine} answers from {version}"), PATIENCE, || {
        let (by, of) = who(&server.get(WHO));
        (by, &*of) == (engine, version)
    });
}

fn times(log: &str, text: &str) -> usize {
    log.matches(text).count()
}

const BEGUN: &str = "taking the image over from the Docker Engine";

// === taking over ===

#[test]
fn docker_serves_its_image_until_that_is_taken_over() {
    let place = Place::with_image("one");
    let gate = Gate::before(&own_engine());
    gate.shut();
    let server = place.serve_through(&gate, "");
    served_by(&server, "docker", "one");
    server.wait_for_log("its requests go to docker: until its image is taken over");
    wait_until("the take-over has begun", PATIENCE, || gate.exports() == 1);
    served_by(&server, "docker", "one");
    gate.open();
    wait_for(&server, "embedded", "one");
    server.wait_for_log("its requests go to embedded: image taken over from Docker");
    // What Docker had ready for the next request goes.
    wait_until("no container of Docker's is left", PATIENCE, || server.containers() == 0);
    served_by(&server, "embedded", "one");
    assert_eq!(times(&server.log(), BEGUN), 1, "{}", server.log());
}

#[test]
fn fifty_requests_at_once_take_an_image_over_once() {
    let place = Place::with_image("one");
    let gate = Gate::before(&own_engine());
    gate.shut();
    let server = place
        .serve_through(&gate, "warm = 0\nmax_concurrency = 4\nqueue_timeout = \"60s\"\ntimeout = \"60s\"");
    let address = server.address;
    let requests: Vec<_> =
        (0..50).map(|_| std::thread::spawn(move || Connection::open(address).get(WHO))).collect();
    wait_until("the take-over has begun", PATIENCE, || gate.exports() == 1);
    gate.open();
    for request in requests {
        assert_eq!(who(&request.join().unwrap()).1, "one");
    }
    wait_for(&server, "embedded", "one");
    assert_eq!((times(&server.log(), BEGUN), gate.exports()), (1, 1), "{}", server.log());
}

/// Asks one request after the other until told to stop: when each was sent, who answered, and from which version. None may
/// fail.
fn asked_steadily(
    server: &Server,
    path: &str,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<Vec<(Instant, String, String)>> {
    let (address, path, stop) = (server.address, path.to_owned(), stop.clone());
    std::thread::spawn(move || {
        let mut answers = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let sent = Instant::now();
            let (engine, version) = who(&Connection::open(address).get(&path));
            answers.push((sent, engine.to_owned(), version));
        }
        answers
    })
}

/// Asserts that once a version was there, no older one came again.
#[track_caller]
fn never_went_back(answers: &[(Instant, String, String)], versions: &[&str]) {
    let answered: Vec<_> = answers.iter().map(|(_, _, version)| version.as_str()).collect();
    let mut in_order = answered.clone();
    in_order.sort_by_key(|version| versions.iter().position(|known| known == version));
    assert_eq!(answered, in_order);
}

#[test]
fn an_image_that_is_built_anew_is_served_within_two_seconds_and_no_request_fails() {
    let place = Place::with_image("one");
    let gate = Gate::before(&own_engine());
    let server = place.serve_through(&gate, "");
    let stop = Arc::default();
    let asking = asked_steadily(&server, WHO, &stop);
    wait_for(&server, "embedded", "one");
    let before = place.stored("images");
    gate.shut();
    place.build("two");
    let built = Instant::now();
    wait_for(&server, "docker", "two");
    wait_until("the rebuilt image is on its way", PATIENCE, || gate.exports() == 2);
    // As it may happen: built once more while it comes.
    place.build("three");
    let built_again = Instant::now();
    wait_for(&server, "docker", "three");
    gate.open();
    wait_for(&server, "embedded", "three");
    stop.store(true, Ordering::Relaxed);
    let answers = asking.join().unwrap();
    assert!(answers.len() > 10, "{answers:?}");
    let late = |built: Instant, old: &[&str]| -> Vec<_> {
        let is_late = |(sent, _, version): &&(Instant, String, String)| {
            *sent > built + SOON && old.contains(&version.as_str())
        };
        answers.iter().filter(is_late).cloned().collect()
    };
    assert_eq!(late(built, &["one"]), []);
    assert_eq!(late(built_again, &["one", "two"]), []);
    never_went_back(&answers, &["one", "two", "three"]);
    // Nobody's name means them any more.
    wait_until("the images before are removed", PATIENCE, || {
        let now = place.stored("images");
        now.len() == 1 && now.is_disjoint(&before)
    });
    place.has_nothing_unfinished();
}

#[test]
fn what_was_taken_over_is_not_taken_over_again_by_the_next_start() {
    let place = Place::with_image("one");
    let server = place.serve("");
    wait_for(&server, "embedded", "one");
    drop(server);
    let server = place.serve("");
    served_by(&server, "embedded", "one");
    server.wait_for_log("its requests go to embedded: image taken over from Docker");
    assert_eq!(times(&server.log(), BEGUN), 0, "{}", server.log());
}

#[test]
fn a_take_over_that_is_stopped_with_the_server_leaves_nothing() {
    let place = Place::with_image("one");
    let gate = Gate::before(&own_engine());
    gate.shut();
    let mut server = place.serve_through(&gate, "");
    wait_until("the take-over has begun", PATIENCE, || gate.exports() == 1);
    wait_until("there is something of it", PATIENCE, || !place.stored("work").is_empty());
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    place.has_nothing_unfinished();
    assert_eq!(place.stored("images"), BTreeSet::new());
}

#[test]
fn shared_and_waiting_containers_move_too_and_no_request_fails() {
    let place = Place::with_image("one");
    let gate = Gate::before(&own_engine());
    gate.shut();
    let shared = place.route("isolation = \"shared\"").replace("\"/p\"", "\"/shared\"");
    let server = place.serve_through(&gate, &format!("warm = 1\n{shared}"));
    let shared = WHO.replace("/p?", "/shared?");
    let stop = Arc::default();
    // Who finds no container waits for one.
    let asking = asked_steadily(&server, &shared, &stop);
    assert_eq!(who(&server.get(&shared)).0, "docker");
    served_by(&server, "docker", "one");
    gate.open();
    wait_for(&server, "embedded", "one");
    wait_until("the shared route has moved", PATIENCE, || who(&server.get(&shared)).0 == "embedded");
    wait_until("no container of Docker's is left", PATIENCE, || server.containers() == 0);
    // And back, and there again, without an old one in between.
    gate.shut();
    place.build("two");
    wait_until("Docker serves the new image", PATIENCE, || {
        who(&server.get(&shared)) == ("docker", "two".to_owned())
    });
    gate.open();
    wait_until("it has moved again", PATIENCE, || {
        let (engine, version) = who(&server.get(&shared));
        assert_eq!(version, "two");
        engine == "embedded"
    });
    stop.store(true, Ordering::Relaxed);
    never_went_back(&asking.join().unwrap(), &["one", "two"]);
}

#[test]
fn an_image_of_256_mebibytes_passes_through_a_few_of_memory() {
    let place = Place::new();
    docker::probe_image();
    place.build_with("one", 256, &docker);
    let server = place.serve("");
    wait_for(&server, "embedded", "one");
    let (_, peak) = server.memory();
    assert!(peak < 64 << 20, "{} MiB at its peak", peak >> 20);
}

// === what goes wrong ===

#[test]
fn docker_may_die_in_the_middle_of_a_take_over_and_behind_it() {
    let engine = PrivateEngine::start();
    let place = Place::new();
    place.build_with("one", 0, &|arguments| engine.docker(arguments));
    let gate = Gate::before(&engine.host());
    gate.shut();
    let server = place.serve_through(&gate, "warm = 0");
    wait_until("the take-over has begun", PATIENCE, || gate.exports() == 1);
    served_by(&server, "docker", "one");
    engine.kill();
    gate.open();
    // It is Docker's, so nobody looks for it in a registry.
    let refused = server.get(WHO);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{}", refused.text());
    server.wait_for_log("the image cannot be taken over, and its requests stay with Docker");
    place.has_nothing_unfinished();
    assert_eq!(place.stored("images"), BTreeSet::new());

    engine.up();
    wait_until("it goes on by itself", PATIENCE, || server.get(WHO).status == 200);
    wait_for(&server, "embedded", "one");
    assert_eq!(times(&server.log(), "cannot be taken over, and its requests"), 1, "{}", server.log());

    engine.kill();
    wait_until("Docker is missed", PATIENCE, || server.log().contains("does not answer: "));
    served_by(&server, "embedded", "one");
    drop(server);
    // Nor does the next start need it.
    let server = place.serve_through(&gate, "warm = 0");
    served_by(&server, "embedded", "one");
    server.wait_for_log("image as it was last taken over from Docker, which does not answer now");
}

#[test]
fn where_the_store_is_full_docker_goes_on_serving() {
    let place = Place::new();
    docker::probe_image();
    place.build_with("one", 32, &docker);
    fs::create_dir(place.store()).unwrap();
    // Too small for the archive, and out of everybody's sight.
    let script = "mount -t tmpfs -o size=16m none \"$DCGI_STORE\" && exec \"$@\"";
    let server = place.serve_with("", |command| {
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut wrapped = Command::new("unshare");
        wrapped.args(["--mount", "sh", "-c", script, "sh"]).arg(command.get_program()).args(arguments);
        wrapped.env("DCGI_STORE", place.store());
        *command = wrapped;
    });
    server.wait_for_log("the image cannot be taken over, and its requests stay with Docker: ");
    assert!(server.log().contains("the disk is full"), "{}", server.log());
    served_by(&server, "docker", "one");
    // The next try fails as well, and need not be told.
    wait_until("it was tried again", PATIENCE, || times(&server.log(), BEGUN) == 2);
    served_by(&server, "docker", "one");
    assert_eq!(times(&server.log(), "cannot be taken over, and its requests"), 1, "{}", server.log());
    let inside = PathBuf::from(format!("/proc/{}/root{}", server.pid(), place.store().display()));
    wait_until("nothing of it is left", PATIENCE, || listed(&inside.join("work")).is_empty());
    assert_eq!(listed(&inside.join("images")), BTreeSet::new());
}

#[test]
fn an_archive_that_is_not_what_it_says_is_not_taken_over() {
    let place = Place::with_image("genuine");
    let gate = Gate::before(&own_engine());
    gate.forge(Some(("VERSION=genuine", "VERSION=forged!")));
    let server = place.serve_through(&gate, "");
    server.wait_for_log("the image cannot be taken over, and its requests stay with Docker: ");
    assert!(server.log().contains("damaged"), "{}", server.log());
    served_by(&server, "docker", "genuine");
    place.has_nothing_unfinished();
    assert_eq!(place.stored("images"), BTreeSet::new());
    gate.forge(None);
    wait_for(&server, "embedded", "genuine");
}

// === with and without Docker ===

#[test]
fn an_image_of_the_own_store_wins_over_dockers() {
    let place = Place::with_image("theirs");
    place.import("own");
    let server = place.serve("");
    served_by(&server, "embedded", "own");
    server.wait_for_log("dcgi's own store has the image; Docker's of that name is another and is not used");
    assert_eq!(times(&server.log(), BEGUN), 0, "{}", server.log());
}

#[test]
fn what_is_imported_while_an_image_is_taken_over_wins() {
    let place = Place::with_image("theirs");
    let gate = Gate::before(&own_engine());
    gate.shut();
    let server = place.serve_through(&gate, "");
    wait_until("the take-over has begun", PATIENCE, || gate.exports() == 1);
    place.import("own");
    wait_for(&server, "embedded", "own");
    gate.open();
    server.wait_for_log("took the image over");
    served_by(&server, "embedded", "own");
    // What came from Docker means nothing here.
    wait_until("the other image is removed", PATIENCE, || place.stored("images").len() == 1);
    served_by(&server, "embedded", "own");
}

#[test]
fn an_imported_image_is_served_by_dcgi_run_where_docker_is_there() {
    let place = Place::new();
    place.import("own");
    let mut server = place.run();
    let answer = who(&server.get(&WHO.replace("/p?", "/?")));
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(answer, ("embedded", "own".to_owned()));
}

#[test]
fn dcgi_run_has_an_image_of_dockers_taken_over_and_follows_its_name_and_no_request_fails() {
    let place = Place::with_image("one");
    let server = place.run();
    let path = WHO.replace("/p?", "/?");
    let stop = Arc::default();
    let asking = asked_steadily(&server, &path, &stop);
    let answer = || who(&server.get(&path));
    server.wait_for_log("its requests go to embedded: image taken over from Docker");
    for _ in 0..2 {
        assert_eq!(answer(), ("embedded", "one".to_owned()));
    }
    place.build("two");
    wait_until("the new image answers", PATIENCE, || answer().1 == "two");
    wait_until("that is taken over too", PATIENCE, || answer() == ("embedded", "two".to_owned()));
    stop.store(true, Ordering::Relaxed);
    never_went_back(&asking.join().unwrap(), &["one", "two"]);
}

#[test]
fn without_docker_the_own_store_serves() {
    let place = Place::new();
    place.import("own");
    let server = place.serve_with("", |command| {
        command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    });
    served_by(&server, "embedded", "own");
}

#[test]
fn an_engine_that_comes_after_the_start_is_found() {
    let place = Place::with_image("one");
    let gate = Gate::closed(&own_engine());
    let server = place.serve_through(&gate, "debug_errors = true");
    let missing = server.get(WHO);
    assert_eq!(missing.status, 502);
    gate.listen();
    wait_until("its image is served", PATIENCE, || server.get(WHO).status == 200);
    wait_for(&server, "embedded", "one");
}

#[test]
fn an_image_that_docker_forgets_goes_on_being_served() {
    let place = Place::with_image("one");
    let server = place.serve("");
    wait_for(&server, "embedded", "one");
    let alone = changing_images();
    docker(&["image", "rm", "-f", &place.image]);
    drop(alone);
    wait_until("it is missed", PATIENCE, || {
        served_by(&server, "embedded", "one");
        server.log().contains("image taken over from Docker, which has none of that name any more")
    });
}

#[test]
fn an_image_that_is_nowhere_is_told_with_the_places_and_the_cure() {
    let place = Place::new();
    let server = place.serve("debug_errors = true");
    let page = server.get(WHO);
    assert_eq!(page.status, 502);
    let (image, store, engine) = (&place.image, place.store(), own_engine());
    for part in [
        format!(
            "image `{image}` is not there (engine embedded): dcgi's store {} and the Docker Engine at {engine} have none of that name",
            store.display()
        ),
        format!(
            "`docker build -t {image} .`, `dcgi image pull {image}` or `dcgi image import` gets it there"
        ),
    ] {
        server.wait_for_log(&part);
    }
}

// === what only one of them has ===

#[test]
fn a_network_of_dockers_and_a_volume_of_dockers_are_dockers() {
    let place = Place::with_image("one");
    let volume = place.folder.file_name().unwrap().to_str().unwrap().to_owned();
    docker(&["volume", "create", &volume]);
    let route = |path: &str, more: &str| place.route(more).replace("\"/p\"", &format!("{path:?}"));
    let config = [
        route("/bridge", "network = \"bridge\""),
        route("/theirs", &format!("volumes = [\"{volume}:/data\"]")),
        // Nobody has it, so whoever has the image makes it.
        route("/new", &format!("volumes = [\"{volume}-new:/data\"]")),
        route("/named", "engine = \"docker\""),
    ]
    .concat();
    let server = place.serve(&config);
    wait_for(&server, "embedded", "one");
    let by = |path: &str| who(&server.get(&WHO.replace("/p?", &format!("{path}?")))).0;
    let found = ["/bridge", "/theirs", "/named", "/new"].map(by);
    let log = server.log();
    // With all that it has ready for the next request.
    drop(server);
    docker(&["volume", "rm", "-f", &volume]);
    docker(&["volume", "rm", "-f", &format!("{volume}-new")]);
    assert_eq!(found, ["docker"; 4]);
    for line in [
        "its requests go to docker: the route asks for network `bridge`",
        &format!("its requests go to docker: volume `{volume}` is Docker's"),
        &format!(
            "its requests go to docker: the image is Docker's, which makes volume `{volume}-new` and keeps it"
        ),
        "its requests go to docker: the configuration says so",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

/// A volume of Docker's under a name of its own. Removed on drop, so declare it before the server that uses it.
struct DockersVolume(String);

impl DockersVolume {
    /// For a place, by whose name it goes. It is not made by this.
    fn of(place: &Place) -> Self {
        Self(place.folder.file_name().unwrap().to_str().unwrap().to_owned())
    }

    /// What a route has it by, at `/data`.
    fn kept(&self) -> String {
        format!("warm = 0\nvolumes = [\"{}:/data\"]", self.0)
    }
}

/// What was written to a volume.
const KEPT: &str = "/p?text&file=/data/kept";

/// A server whose route's volume was made by Docker, and written to, before the image was there; and what [`KEPT`] says.
#[track_caller]
fn written_while_docker_serves(place: &Place, gate: &Gate, keeps: &str) -> (Server, String) {
    gate.shut();
    let server = place.serve_through(gate, keeps);
    assert_eq!(server.get("/p?text&write=/data/kept").status, 200);
    let before = server.get(KEPT);
    assert_eq!(before.status, 200, "{}", before.text());
    gate.open();
    server.wait_for_log("took the image over from the Docker Engine");
    (server, before.text())
}

impl Drop for DockersVolume {
    #[allow(clippy::disallowed_methods)]
    fn drop(&mut self) {
        _ = Command::new("docker").args(["volume", "rm", "-f", &self.0]).output();
    }
}

#[test]
fn what_was_written_while_docker_served_is_in_sight_when_the_image_is_there() {
    let place = Place::with_image("one");
    let volume = DockersVolume::of(&place);
    let gate = Gate::before(&own_engine());
    let keeps = volume.kept();
    let (server, before) = written_while_docker_serves(&place, &gate, &keeps);
    place.build("two");
    wait_for(&server, "docker", "two");
    assert_eq!(server.get(KEPT).text(), before);
    drop(server);
    // Nor does the next start move it.
    let server = place.serve_through(&gate, &keeps);
    assert_eq!(server.get(KEPT).text(), before);
    served_by(&server, "docker", "two");
    server.wait_for_log(&format!("its requests go to docker: volume `{}` is Docker's", volume.0));
    drop(server);
}

#[test]
fn what_docker_was_given_is_not_begun_anew_where_it_is_away_at_the_next_start() {
    let place = Place::with_image("one");
    let volume = DockersVolume::of(&place);
    let gate = Gate::before(&own_engine());
    let keeps = volume.kept();
    let (server, before) = written_while_docker_serves(&place, &gate, &keeps);
    drop(server);
    let server = place.serve_with(&keeps, |command| {
        command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    });
    let refused = server.get(KEPT);
    assert_eq!(refused.status, 503, "{}", refused.text());
    server.wait_for_log(&format!("volume `{}` is Docker's", volume.0));
    assert!(!place.store().join("volumes").join(&volume.0).exists());
    drop(server);
    let server = place.serve_through(&gate, &keeps);
    assert_eq!(server.get(KEPT).text(), before);
    drop(server);
}

#[test]
fn a_volume_of_dockers_stays_its_where_another_route_begins_one_of_the_name() {
    for other in [
        "rootfs = \"/\"\ncommand = [\"/bin/true\"]",
        "image = \"IMAGE\"\npull = \"never\"\nengine = \"embedded\"",
    ] {
        let place = Place::with_image("one");
        let volume = DockersVolume::of(&place);
        let gate = Gate::before(&own_engine());
        docker(&["volume", "create", &volume.0]);
        // So that the other route can be served.
        place.import("one");
        let keeps = volume.kept();
        let other = format!(
            "{keeps}\n[[route]]\npath = \"/other\"\n{}\n{keeps}",
            other.replace("IMAGE", &place.image)
        );
        let server = place.serve_through(&gate, &other);
        _ = server.get("/other");
        server.wait_for_log(&format!(
            "there are two volumes `{}`: the one in dcgi's own store is used",
            volume.0
        ));
        assert_eq!(server.get("/p?text&write=/data/kept").status, 200);
        let before = server.get(KEPT).text();
        served_by(&server, "docker", "one");
        drop(server);
        let server = place.serve_through(&gate, &other);
        served_by(&server, "docker", "one");
        assert_eq!(server.get(KEPT).text(), before, "{}", server.log());
        drop(server);
    }
}

#[test]
fn a_volume_that_docker_comes_with_later_is_not_begun_in_the_store_before() {
    let place = Place::with_image("one");
    let volume = DockersVolume::of(&place);
    docker(&["volume", "create", &volume.0]);
    let gate = Gate::closed(&own_engine());
    // It is to be there, and answers nobody.
    let silent = std::os::unix::net::UnixListener::bind(gate.path()).unwrap();
    let both = format!(
        "warm = 0\nvolumes = [\"{}:/data\"]\n[[route]]\npath = \"/without\"\nimage = \"{}\"\npull = \"never\"",
        volume.0, place.image
    );
    let server = place.serve_through(&gate, &both);
    assert_eq!(server.get(WHO).status, 503);
    drop(silent);
    fs::remove_file(gate.path()).unwrap();
    gate.listen();
    let without = WHO.replace("/p?", "/without?");
    wait_until("the other route has moved", PATIENCE, || {
        let response = server.get(&without);
        response.status == 200 && who(&response).0 == "embedded"
    });
    assert!(!place.store().join("volumes").join(&volume.0).exists(), "{}", server.log());
    served_by(&server, "docker", "one");
    drop(server);
}

#[test]
fn a_route_that_docker_serves_leaves_the_stores_volumes_to_others() {
    let place = Place::with_image("theirs");
    place.import("own");
    let volume = DockersVolume::of(&place);
    let keeps = volume.kept();
    let server = place.serve(&keeps);
    assert_eq!(server.get("/p?text&write=/data/kept").status, 200);
    let before = server.get(KEPT).text();
    drop(server);
    let bridge = format!(
        "{keeps}\n[[route]]\npath = \"/bridge\"\nimage = \"{}\"\npull = \"never\"\nnetwork = \"bridge\"\n{keeps}",
        place.image
    );
    let server = place.serve(&bridge);
    assert_eq!(server.get("/bridge?text&file=/data/kept").status, 200);
    assert_eq!(server.get(KEPT).text(), before);
    served_by(&server, "embedded", "own");
    server.wait_for_log(&format!("there are two volumes `{}`: Docker's is used", volume.0));
    drop(server);
}

#[test]
fn what_was_written_to_a_volume_of_the_store_is_in_sight_while_an_image_is_taken_over() {
    let place = Place::with_image("one");
    let gate = Gate::before(&own_engine());
    drop({
        let server = place.serve_through(&gate, "warm = 0");
        wait_for(&server, "embedded", "one");
        server
    });
    let server = place.serve_through(&gate, "warm = 0\nvolumes = [\"own:/data\"]");
    served_by(&server, "embedded", "one");
    assert_eq!(server.get("/p?text&write=/data/kept").status, 200);
    let kept = "/p?text&file=/data/kept";
    let before = server.get(kept).text();
    gate.shut();
    place.build("two");
    wait_until("the rebuilt image is seen", PATIENCE, || {
        served_by(&server, "embedded", "one");
        server.log().contains("dcgi's own store has volume `own`, and the image as it was last taken over")
    });
    wait_until("the rebuilt image is on its way", PATIENCE, || gate.exports() == 2);
    served_by(&server, "embedded", "one");
    assert_eq!(server.get(kept).text(), before);
    gate.open();
    wait_for(&server, "embedded", "two");
    assert_eq!(server.get(kept).text(), before);
    assert_eq!(times(&server.log(), "its requests go to docker"), 0, "{}", server.log());
}

#[test]
fn an_image_that_an_engine_may_have_which_was_not_heard_yet_is_not_pulled_in_its_stead() {
    let place = Place::new();
    let socket = std::env::temp_dir().join(format!("dcgi-silent-{}", std::process::id()));
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let server = place.serve_with("debug_errors = true", |command| {
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    });
    let refused = server.get(WHO);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{}", refused.text());
    server.wait_for_log(&format!("image `{}` is not pulled in its stead", place.image));
    drop(server);
    fs::remove_file(&socket).unwrap();
}

#[test]
fn a_route_may_name_the_embedded_engine_where_the_file_names_docker() {
    let place = Place::with_image("theirs");
    place.import("own");
    let named = place.route("engine = \"embedded\"").replace("\"/p\"", "\"/embedded\"");
    let config = format!("engine = \"docker\"\n{}{named}", place.route(""));
    let server = Server::start_under(Under::Docker, &config, |command| {
        command.env("DCGI_STORE", place.store());
    });
    served_by(&server, "docker", "theirs");
    let answer = server.get(&WHO.replace("/p?", "/embedded?"));
    assert_eq!(who(&answer), ("embedded", "own".to_owned()));
}

// === the other commands ===

/// Runs a command of dcgi's on a file with the image's route, and gives what it prints.
#[track_caller]
#[allow(clippy::disallowed_methods)]
fn command(place: &Place, arguments: &[&str], host: &str, more: &str) -> String {
    let file = place.folder.join("dcgi.toml");
    fs::write(&file, place.route(more)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_dcgi"))
        .args(arguments)
        .args(["-c", file.to_str().unwrap()])
        .env("DCGI_STORE", place.store())
        .env("DOCKER_HOST", host)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn check_says_each_routes_engine_and_why_and_takes_nothing_over() {
    let place = Place::with_image("one");
    let out = command(&place, &["check"], &own_engine(), "");
    assert!(out.contains("/p  docker: until its image is taken over"), "{out}");
    assert!(!place.store().exists());
    place.import("own");
    let out = command(&place, &["check"], &own_engine(), "");
    assert!(out.contains("/p  embedded: dcgi's own store has the image; Docker's of that name is"), "{out}");
    let out = command(&place, &["check"], "tcp://127.0.0.1:1", "");
    assert!(out.contains("/p  docker: DOCKER_HOST names tcp://127.0.0.1:1"), "{out}");
    let out = command(&place, &["check"], &own_engine(), "network = \"bridge\"");
    assert!(out.contains("/p  docker: the route asks for network `bridge`"), "{out}");
}

#[test]
fn check_does_not_wait_for_an_engine_that_hangs() {
    let place = Place::new();
    let socket = std::env::temp_dir().join(format!("dcgi-hangs-{}", std::process::id()));
    let _hangs = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let began = Instant::now();
    let out = command(&place, &["check"], &format!("unix://{}", socket.display()), "");
    let took = began.elapsed();
    fs::remove_file(&socket).unwrap();
    assert!(out.contains("/p  docker: what Docker has is not known: it has not answered yet"), "{out}");
    // Two seconds for the engine, and what a busy machine needs for the rest.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn one_request_from_the_shell_takes_nothing_over() {
    let place = Place::with_image("one");
    let out = command(&place, &["invoke", WHO], &own_engine(), "");
    assert_eq!(out, "=one\n");
    assert_eq!(place.stored("images"), BTreeSet::new());
    let out = command(&place, &["inspect", "/p"], &own_engine(), "");
    assert!(
        out.contains("engine     docker\n           the image is Docker's and not taken over\n"),
        "{out}"
    );
    assert_eq!(place.stored("images"), BTreeSet::new());
    place.import("own");
    let out = command(&place, &["inspect", "/p"], &own_engine(), "");
    assert!(out.contains("engine     embedded\n"), "{out}");
}
