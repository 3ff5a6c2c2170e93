//! `dcgi demo`: a site that needs nothing but this executable.
//!
//! - `page`: its programs, each a CGI program like any other
//! - `image`: this executable, and what it needs to run, as an image
//! - `archive`, `elf`: how that image is put together
//! - `install`: getting it into an engine

mod archive;
mod elf;
mod image;
mod install;
pub(super) mod page;

use std::process::ExitCode;

use clap::Args;
use dcgi::config::{Config, EngineChoice, Listen, ServerLimits};
use dcgi::engine::{Program, PullPolicy};
use dcgi::gateway::ProgramRoute;
use dcgi::site::{ProxyHeaders, Route};

use super::serve::{self, Grace, Site};
use image::Image;
use page::Page;

/// What tells a page which engine runs it: nothing in a container does.
const ENGINE: &str = "DCGI_ENGINE";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to listen: an address with a port, or unix:/path
    #[arg(short, long, value_name = "ADDR", default_value_t)]
    listen: Listen,
    /// What runs its programs: auto, embedded or docker
    #[arg(long, default_value = "auto", value_parser = super::engine_choice)]
    engine: EngineChoice,
    #[command(flatten)]
    grace: Grace,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let site = async {
        let image = Image::of_this_executable()?;
        let reference = image.reference().to_owned();
        let mut config = Config {
            listen: vec![options.listen],
            engine: options.engine,
            trusted_proxies: Vec::new(),
            proxy_headers: ProxyHeaders::default(),
            server: ServerLimits::default(),
            routes: Vec::new(),
        };
        let engine = install::engine_with(options.engine, image).await?;
        config.routes = Page::ALL.into_iter().map(|page| route(page, &reference, engine.name())).collect();
        let hint = "Open that address in a browser, or ask it with curl. Ctrl-C ends the demo.";
        Ok(Site { config, engine, hint: Some(hint) })
    };
    serve::serve_site(site, options.grace).await
}

fn route(page: Page, image: &str, engine: &str) -> Route {
    let mut program = Program::new(image);
    program.command = Some(vec!["demo-page".to_owned(), page.name().to_owned()]);
    program.env.insert(ENGINE.to_owned(), engine.to_owned());
    // It is made here, and in no registry.
    program.pull = PullPolicy::Never;
    Route::new(page.path(), ProgramRoute { debug_errors: true, ..program.into() })
}
