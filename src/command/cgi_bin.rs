//! `dcgi cgi-bin`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use dcgi::config::{Listen, normal, parse_handler, parse_index, parse_path};
use dcgi::gateway::ProgramRoute;
use dcgi::site::{Route, ScriptsRoute};

use super::container::{Container, target};
use super::serve::{self, Grace};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The directory of scripts
    directory: PathBuf,
    /// The image that they run in; without it or --rootfs, this machine's own interpreters run them
    #[arg(long, value_name = "IMAGE", conflicts_with = "rootfs")]
    image: Option<String>,
    /// The root directory that they run in, such as a backup of an old server; / is this machine itself
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// Where to listen: an address with a port, or unix:/path
    #[arg(short, long, value_name = "ADDR", default_value_t)]
    listen: Listen,
    /// The path that they are served below
    #[arg(long, default_value = "/cgi-bin", value_parser = parse_path)]
    path: String,
    /// What runs for a directory, if it is there; may be said again for a second choice
    #[arg(long, value_name = "NAME", value_parser = parse_index)]
    index: Vec<String>,
    /// What runs the scripts whose names end so, whatever their own first line says: .pl=/usr/bin/perl, or
    /// ".pl=/usr/bin/perl -w"; may be said again for another ending
    #[arg(long, value_name = ".ENDING=PROGRAM", value_parser = parse_handler)]
    handler: Vec<(String, Vec<String>)>,
    #[command(flatten)]
    grace: Grace,
    #[command(flatten)]
    container: Container,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let given = &options.directory;
    let directory = normal(&std::path::absolute(given)?);
    let found =
        std::fs::metadata(&directory).with_context(|| format!("the directory {}", directory.display()))?;
    if !found.is_dir() {
        bail!(
            "{} is a file: expected a directory of scripts; `dcgi run` serves a single program",
            given.display()
        );
    }
    let engine = options.container.engine;
    let rootfs = options.rootfs.or_else(|| options.image.is_none().then(|| PathBuf::from("/")));
    let mut program = options.container.program(options.image, rootfs)?;
    if let Some(root) = &program.rootfs
        && program.user.is_none()
        && root != Path::new("/")
    {
        program.user = Some(unprivileged(root));
    }
    let own = directory.to_str().unwrap_or_default();
    if program.volumes.iter().any(|volume| target(volume) == own) {
        bail!("-v mounts something at {own}, where the scripts are: leave it out");
    }
    // In a container whose scripts are there, they win.
    program.tmpfs.retain(|path| path != own);
    let mut route = ProgramRoute::from(program);
    // Whoever starts it by hand wants to see what is wrong with it.
    route.debug_errors = true;
    let mut scripts =
        ScriptsRoute::new(&directory, route).with_context(|| directory.display().to_string())?;
    scripts.index = options.index;
    scripts.handlers = options.handler.into_iter().collect();
    serve::serve_alone(options.listen, engine, Route::new(options.path, scripts), options.grace).await
}

/// Whom scripts run as in another machine's root directory: its web server's user, else nobody in particular.
fn unprivileged(root: &Path) -> String {
    let known = std::fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    let is_known = |name: &&str| known.lines().any(|line| line.split(':').next() == Some(name));
    let of_servers = ["www-data", "apache", "www", "wwwrun", "http", "nobody"];
    of_servers.into_iter().find(is_known).unwrap_or("65534:65534").to_owned()
}
