//! `dcgi check`

use std::fmt::Display;
use std::process::ExitCode;

use anyhow::bail;
use bytesize::ByteSize;
use clap::Args;
use comfy_table::Table;
use dcgi::config::EngineChoice;
use dcgi::engine::embedded::EmbeddedEngine;
use dcgi::engine::{Isolation, Network};
use dcgi::gateway::{Output, ProgramRoute};
use dcgi::site::Route;

use super::ConfigFile;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.file.load()?;
    if config.engine == EngineChoice::Embedded {
        suit_embedded(&config.routes)?;
    }
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    println!("listen  {}", listen.join(", "));
    println!("engine  {}\n", config.engine);
    println!("{}", table(&config.routes));
    for route in &config.routes {
        if let Some(ProgramRoute { program, .. }) = route.program()
            && let Isolation::Shared { .. } = program.isolation
        {
            println!(
                "\nroute `{}`: its requests share a container: files in memory, shared memory, the network, limits and \
                 what other processes show in /proc; each has a process and an environment of its own",
                route.name()
            );
        }
    }
    if config.engine == EngineChoice::Embedded {
        for shortcoming in EmbeddedEngine::shortcomings() {
            println!("\nwarning: {shortcoming}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the embedded engine has what the routes ask for.
fn suit_embedded(routes: &[Route]) -> anyhow::Result<()> {
    for route in routes {
        if let Some(ProgramRoute { program, .. }) = route.program()
            && let network @ (Network::Bridge | Network::Named(_)) = &program.network
        {
            bail!(
                "route `{}`: the embedded engine has no network `{}`, only `none` and `host`; engine = \"docker\" has",
                route.name(),
                network.as_str()
            );
        }
    }
    Ok(())
}

fn table(routes: &[Route]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["ROUTE", "IMAGE", "COMMAND", "OUTPUT", "NETWORK", "MEMORY", "TIMEOUT", "AT ONCE"]);
    for route in routes {
        let Some(ProgramRoute { program, output, limits, .. }) = route.program() else { continue };
        let command = program.entrypoint.iter().chain(&program.command).flatten();
        let command: Vec<_> = command.map(String::as_str).collect();
        table.add_row([
            route.name().to_string(),
            program.image.clone(),
            if command.is_empty() { "(the image's)".to_owned() } else { command.join(" ") },
            match output {
                Output::Cgi => "cgi".to_owned(),
                Output::Raw { .. } => "raw".to_owned(),
            },
            program.network.as_str().to_owned(),
            or_none(program.memory.map(ByteSize::b)),
            or_none(limits.timeout.map(humantime::format_duration)),
            limits.max_concurrency.to_string(),
        ]);
    }
    table
}

/// A limit, or the word for none.
pub(super) fn or_none(limit: Option<impl Display>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}
