//! `dcgi run`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dcgi::cgi::is_request_variable;
use dcgi::config::{Config, EngineChoice, Listen, ServerLimits};
use dcgi::engine::{Network, Program};
use dcgi::gateway::{Output, ProgramRoute, RequestBody};
use dcgi::site::{ProxyHeaders, Route};

use super::serve::{self, Grace};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The image to serve
    #[arg(required_unless_present = "rootfs")]
    image: Option<String>,
    /// Serve a program in a directory of this machine's in place of an image: / is this machine itself
    #[arg(long, value_name = "DIR", conflicts_with = "image", requires = "command")]
    rootfs: Option<PathBuf>,
    /// Where to listen: an address with a port, or unix:/path
    #[arg(short, long, value_name = "ADDR", default_value_t)]
    listen: Listen,
    /// A variable for the program
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// What runs it: auto, embedded or docker
    #[arg(long, default_value = "auto", value_parser = super::engine_choice)]
    engine: EngineChoice,
    /// What the program can reach: none, bridge, host, or a network's name
    #[arg(long, default_value = "none")]
    network: String,
    /// The program is a filter: the request body is its input, its output the response body
    #[arg(long)]
    raw: bool,
    /// The response's Content-Type with --raw
    #[arg(long, value_name = "TYPE", requires = "raw")]
    content_type: Option<String>,
    #[command(flatten)]
    grace: Grace,
    /// Replaces the image's command; with --rootfs, the program
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut program = Program::new(options.image.unwrap_or_default());
    program.engine = options.engine;
    program.rootfs = options.rootfs.map(std::path::absolute).transpose()?;
    program.env = options.env.into_iter().collect();
    program.command = (!options.command.is_empty()).then_some(options.command);
    program.network = match options.network.as_str() {
        "none" => Network::None,
        "bridge" => Network::Bridge,
        "host" => Network::Host,
        _ => Network::Named(options.network),
    };
    let mut route = ProgramRoute::from(program);
    // Whoever starts a single image by hand wants to see what is wrong with it.
    route.debug_errors = true;
    if options.raw {
        route.output = Output::Raw { content_type: options.content_type };
        route.request_body = RequestBody::Stream;
    }
    let config = Config {
        listen: vec![options.listen],
        engine: options.engine,
        trusted_proxies: Vec::new(),
        proxy_headers: ProxyHeaders::default(),
        server: ServerLimits::default(),
        routes: vec![Route::new("/", route)],
    };
    serve::serve(config, options.grace).await
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, _)) if is_request_variable(name) => {
            Err(format!("{name} is each request's own, and set for it: leave it out"))
        }
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
