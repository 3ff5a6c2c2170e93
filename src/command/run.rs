//! `dcgi run`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dcgi::config::Listen;
use dcgi::gateway::{Output, ProgramRoute, RequestBody};
use dcgi::site::Route;

use super::container::Container;
use super::serve::{self, Grace};

#[derive(Debug, Args)]
#[command(
    override_usage = "dcgi run [OPTIONS] IMAGE [-- CMD…]\n       dcgi run [OPTIONS] --rootfs DIR -- CMD…"
)]
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
    #[command(flatten)]
    grace: Grace,
    /// The program is a filter: the request body is its input, its output the response body
    #[arg(long)]
    raw: bool,
    /// The response's Content-Type with --raw
    #[arg(long, value_name = "TYPE", requires = "raw")]
    content_type: Option<String>,
    #[command(flatten)]
    container: Container,
    /// Replaces the image's command; with --rootfs, the program
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let engine = options.container.engine;
    let mut program = options.container.program(options.image, options.rootfs)?;
    program.command = (!options.command.is_empty()).then_some(options.command);
    let mut route = ProgramRoute::from(program);
    // Whoever starts a single image by hand wants to see what is wrong with it.
    route.debug_errors = true;
    if options.raw {
        route.output = Output::Raw { content_type: options.content_type };
        route.request_body = RequestBody::Stream;
    }
    serve::serve_alone(options.listen, engine, Route::new("/", route), options.grace).await
}
