//! dcgi, once for each way it can run a program: what one of them holds is not another's.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::contender::Contender;
use super::exercise::ECHO;
use super::rootfs;
use super::server::Server;
use super::stage::{self, Stage};
use super::support;

/// Containers that `warm` keeps on Docker: as many as there are requests at once.
pub(crate) const WARM: usize = 8;

/// Serves what a contender is asked for. `store` is where the embedded engine has its images.
pub(crate) fn start(stage: &Stage, contender: Contender, store: &Path) -> Server {
    let config = write_config(stage, contender);
    let mut command = Command::new(support::executable());
    command.args(["serve", "-c"]).arg(config).env("DCGI_STORE", store);
    // Its log is at its default: a line a request, to nowhere.
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = stage::start(&mut command);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("dcgi listens on http://").map(str::parse);
    let address = address.unwrap_or_else(|| panic!("dcgi does not serve {contender:?}")).unwrap();
    Server { address, processes: vec![child] }
}

/// The engine's create request for hello, as a client without dcgi may send it.
pub(crate) fn container(stage: &Stage) -> String {
    support::container(&write_config(stage, Contender::DockerCold), "/hello")
}

fn write_config(stage: &Stage, contender: Contender) -> PathBuf {
    stage.write(&format!("{}.toml", contender.key()), config(contender))
}

fn config(contender: Contender) -> String {
    let engine = if contender.needs_docker() { "docker" } else { "embedded" };
    let mode = match contender {
        Contender::EmbeddedShared | Contender::DockerShared => "isolation = \"shared\"".to_owned(),
        Contender::EmbeddedCold | Contender::DockerCold => "warm = 0".to_owned(),
        Contender::DockerWarm => format!("warm = {WARM}"),
        _ => "warm = \"auto\"".to_owned(),
    };
    let mut config = format!(
        "listen = [\"127.0.0.1:0\"]\nengine = \"{engine}\"\n\n\
         [defaults]\npull = \"never\"\nmax_request_body = {ECHO}\n{mode}\n"
    );
    let image = |name: &str| if engine == "docker" { rootfs::docker_name(name) } else { rootfs::name(name) };
    let mut route = |path: &str, image: String, more: &str| {
        config += &format!("\n[[route]]\npath = \"/{path}\"\nimage = \"{image}\"\n{more}\n");
    };
    route("hello", image("static"), "entrypoint = [\"/bin/hello\"]");
    // What is slow is asked for nothing else.
    if !contender.is_slow() {
        for name in ["stream", "echo", "late-echo"] {
            route(name, image("static"), &format!("entrypoint = [\"/bin/{name}\"]"));
        }
        route("hello.pl", image("perl"), "entrypoint = [\"/hello.pl\"]");
        route(
            "hello.php",
            image("php"),
            "entrypoint = [\"/usr/bin/php-cgi8.2\", \"-n\"]\nscript_filename = \"/hello.php\"\n\
             env = { REDIRECT_STATUS = \"200\" }",
        );
    }
    config
}
