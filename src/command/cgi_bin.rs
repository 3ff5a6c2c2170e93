//! `dcgi cgi-bin`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use dcgi::config::{Listen, normal, parse_handler, parse_index, parse_path};
use dcgi::engine::Program;
use dcgi::site::{Route, ScriptsRoute};

use super::container::{Container, target};
use super::serve::{self, Grace};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The directory of scripts; image:DIR is one in the image or root directory
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
    if let Some(path) = given.to_str().and_then(|given| given.strip_prefix("image:")) {
        return in_image(PathBuf::from(path), options).await;
    }
    let directory = normal(&std::path::absolute(given)?);
    let found =
        std::fs::metadata(&directory).with_context(|| format!("the directory {}", directory.display()))?;
    if !found.is_dir() {
        bail!(
            "{} is a file: expected a directory of scripts; `dcgi run` serves a single program",
            given.display()
        );
    }
    let mut program = program(&options)?;
    let own = directory.to_str().unwrap_or_default();
    if program.volumes.iter().any(|volume| target(volume) == own) {
        bail!("-v mounts something at {own}, where the scripts are: leave it out");
    }
    // In a container whose scripts are there, they win.
    program.tmpfs.retain(|path| path != own);
    let scripts = ScriptsRoute::new(&directory, program).with_context(|| directory.display().to_string())?;
    serve(scripts, options).await
}

/// Serves a directory of the image.
async fn in_image(directory: PathBuf, options: Options) -> anyhow::Result<ExitCode> {
    let mut program = program(&options)?;
    let named = || format!("image:{}", directory.display());
    if !directory.is_absolute() {
        bail!("{} is no path: expected one such as image:/usr/lib/cgi-bin", named());
    }
    let directory = normal(&directory);
    // Else what is in memory would be seen there.
    program.tmpfs.retain(|path| !directory.starts_with(path));
    if program.volumes.iter().any(|volume| directory.starts_with(target(volume))) {
        bail!("-v mounts something over {}, where the scripts are: leave it out", named());
    }
    if let Some(root) = &program.rootfs {
        // By a link it may lead to what is there inside alone.
        let at = root.join(directory.strip_prefix("/").unwrap_or(&directory));
        std::fs::symlink_metadata(&at).with_context(|| at.display().to_string())?;
    }
    let scripts = ScriptsRoute::in_image(&directory, program).with_context(named)?;
    serve(scripts, options).await
}

/// What the scripts run in.
fn program(options: &Options) -> anyhow::Result<Program> {
    let rootfs = options.rootfs.clone().or_else(|| options.image.is_none().then(|| PathBuf::from("/")));
    let mut program = options.container.clone().program(options.image.clone(), rootfs)?;
    if let Some(root) = &program.rootfs
        && program.user.is_none()
        && root != Path::new("/")
    {
        program.user = Some(unprivileged(root));
    }
    Ok(program)
}

async fn serve(mut scripts: ScriptsRoute, options: Options) -> anyhow::Result<ExitCode> {
    // Whoever starts it by hand wants to see what is wrong with it.
    scripts.program.debug_errors = true;
    scripts.index = options.index;
    scripts.handlers = options.handler.into_iter().collect();
    let route = Route::new(options.path, scripts);
    serve::serve_alone(options.listen, options.container.engine, route, options.grace).await
}

/// Whom scripts run as in another machine's root directory: its web server's user, else nobody in particular.
fn unprivileged(root: &Path) -> String {
    let known = std::fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    let is_known = |name: &&str| known.lines().any(|line| line.split(':').next() == Some(name));
    let of_servers = ["www-data", "apache", "www", "wwwrun", "http", "nobody"];
    of_servers.into_iter().find(is_known).unwrap_or("65534:65534").to_owned()
}
