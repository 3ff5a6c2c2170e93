//! `docker run` as a CGI program: what one would write first.

use super::program::{Programs, write_script};
use super::rootfs;
use super::server::{self, Server};
use super::stage::{self, Stage};

/// The meta-variables that a program gets.
const VARIABLES: [&str; 9] = [
    "GATEWAY_INTERFACE",
    "REQUEST_METHOD",
    "REQUEST_URI",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "SERVER_PROTOCOL",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
];

/// lighttpd with a folder that has the script only.
pub(crate) fn start(stage: &Stage, programs: &Programs) -> Server {
    let folder = stage.path("docker-run");
    std::fs::create_dir(&folder).unwrap();
    // lighttpd hands on little of its own environment.
    let inherited: String = ["DOCKER_HOST", "PATH", "HOME"]
        .into_iter()
        .filter_map(|name| Some(format!("export {name}='{}'\n", std::env::var(name).ok()?)))
        .collect();
    let variables: String = VARIABLES.map(|name| format!(" -e {name}")).concat();
    let script = format!(
        "#!/bin/sh\n{inherited}exec docker run --rm -i --network none --label {label}{variables} {image} /bin/hello\n",
        label = stage::label(),
        image = rootfs::docker_name("static"),
    );
    write_script(&folder.join("hello"), &script);
    server::lighttpd(stage, "docker-run", &folder, programs)
}
