//! `dcgi cgi-bin`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use dcgi::config::{Config, Listen, ServerLimits, parse_handler, parse_path};
use dcgi::gateway::ProgramRoute;
use dcgi::site::{ProxyHeaders, Route, ScriptsRoute};

use super::container::Container;
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
    /// What runs for a directory, if it is there
    #[arg(long, value_name = "NAME")]
    index: Vec<String>,
    /// What runs scripts that are not executable themselves, by how their names end: .pl=/usr/bin/perl
    #[arg(long, value_name = ".ENDING=PROGRAM", value_parser = parse_handler)]
    handler: Vec<(String, Vec<String>)>,
    #[command(flatten)]
    grace: Grace,
    #[command(flatten)]
    container: Container,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let given = &options.directory;
    // By its real path: whatever link led to it is not in the container.
    let directory = given.canonicalize().with_context(|| format!("the directory {}", given.display()))?;
    if !directory.is_dir() {
        bail!(
            "{} is a file: expected a directory of scripts; `dcgi run` serves a single program",
            given.display()
        );
    }
    let engine = options.container.engine;
    let rootfs = options.rootfs.or_else(|| options.image.is_none().then(|| PathBuf::from("/")));
    let mut route = ProgramRoute::from(options.container.program(options.image, rootfs)?);
    // Whoever starts it by hand wants to see what is wrong with it.
    route.debug_errors = true;
    let mut scripts =
        ScriptsRoute::new(&directory, route).with_context(|| directory.display().to_string())?;
    scripts.index = options.index;
    scripts.handlers = options.handler.into_iter().collect();
    let config = Config {
        listen: vec![options.listen],
        engine,
        trusted_proxies: Vec::new(),
        proxy_headers: ProxyHeaders::default(),
        server: ServerLimits::default(),
        routes: vec![Route::new(options.path, scripts)],
    };
    serve::serve(config, options.grace).await
}
