//! `dcgi check`

mod directory;
mod script;
mod writers;

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::process::ExitCode;

use bytesize::ByteSize;
use clap::Args;
use comfy_table::Table;
use dcgi::config::{Config, EngineChoice};
use dcgi::engine::auto::survey;
use dcgi::engine::embedded::{EmbeddedEngine, RootLook};
use dcgi::engine::{Choice, EngineErrorKind, Isolation, Program, PullPolicy, Volume};
use dcgi::gateway::{Output, ProgramRoute};
use dcgi::images::{Store, check_name};
use dcgi::site::{Route, RouteKind};

use super::ConfigFile;
use super::engine::{self, Use, served};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// Look for each route's image where its engine has them; none is pulled. Exits with 1 where one cannot be had
    #[arg(long)]
    images: bool,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let config = options.file.load()?;
    engine::suit(&config.routes)?;
    let choices = choices(&config).await;
    let mut out = String::new();
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    writeln!(out, "listen  {}", listen.join(", "))?;
    writeln!(out, "engine  {}\n", config.engine)?;
    writeln!(out, "{}\n", table(&config.routes, &choices))?;
    for (route, choice) in served(&config.routes).map(|(route, _)| route).zip(&choices) {
        writeln!(out, "{}  {choice}", route.name())?;
    }
    let missing = served(&config.routes).flat_map(|(route, served)| {
        served.program.missing().into_iter().map(move |missing| (route, missing))
    });
    for (route, missing) in missing {
        writeln!(
            out,
            "\nwarning: route `{}`: {missing}: its requests will be answered with 502{}",
            route.name(),
            unless_elsewhere(route)
        )?;
    }
    for (route, ProgramRoute { program, .. }) in served(&config.routes) {
        if program.rootfs.is_none()
            && let Err(error) = check_name(&program.image)
        {
            let error = super::describe(&error.into());
            writeln!(
                out,
                "\nwarning: route `{}`: {error}: its requests will be answered with 502",
                route.name()
            )?;
        }
        let look = match program.missing().is_empty() {
            true => EmbeddedEngine::look_at_root(program),
            // Said already.
            false => RootLook { user: None, problems: Vec::new() },
        };
        for problem in look.problems {
            let problem = super::describe(&problem.into());
            writeln!(
                out,
                "\nwarning: route `{}`: {problem}: its requests will be answered with 502",
                route.name()
            )?;
        }
        let problems = match &route.kind {
            RouteKind::Scripts(scripts) => directory::problems_of_scripts(scripts, look.user.as_ref()),
            _ => script::problems(program, look.user.as_ref()),
        };
        for problem in problems {
            writeln!(
                out,
                "\nwarning: route `{}`: {problem}: its requests will be answered with 502{}",
                route.name(),
                unless_elsewhere(route)
            )?;
        }
        for name in names_of_directories(program, options.file.config.parent().unwrap_or(Path::new(""))) {
            writeln!(
                out,
                "\nwarning: route `{}`: `{name}` is a named volume, and there is a directory of that name: for that write \
                 `./{name}`",
                route.name()
            )?;
        }
        for refused in writers::refused(program, look.user) {
            writeln!(out, "\nwarning: route `{}`: {refused}", route.name())?;
        }
    }
    for route in &config.routes {
        let files = route.access.auth.iter().flat_map(|auth| [Some(&auth.file), auth.groups.as_ref()]);
        for file in files.flatten() {
            if let Err(error) = std::fs::File::open(file) {
                writeln!(
                    out,
                    "\nwarning: route `{}`: in `auth`, {} cannot be read: {error}: its requests will be answered with 500",
                    route.name(),
                    file.display()
                )?;
            }
        }
        if let RouteKind::Files(files) = &route.kind
            && let Some(problem) = directory::problems(files)
        {
            writeln!(
                out,
                "\nwarning: route `{}`: {problem}: its requests will be answered with 502",
                route.name()
            )?;
        }
    }
    for route in &config.routes {
        if let Some(ProgramRoute { program, .. }) = route.program()
            && let Isolation::Shared { .. } = program.isolation
        {
            writeln!(
                out,
                "\nroute `{}`: its requests share a container: files in memory, shared memory, the network, limits and \
                 what other processes show in /proc; each has a process and an environment of its own",
                route.name()
            )?;
        }
    }
    if choices.iter().any(|choice| choice.engine == "embedded") {
        if let Err(error) = EmbeddedEngine::probe() {
            writeln!(
                out,
                "\nwarning: the embedded engine cannot be had here: {}",
                super::describe(&anyhow::Error::new(error))
            )?;
        }
        for shortcoming in EmbeddedEngine::shortcomings() {
            writeln!(out, "\nwarning: {shortcoming}")?;
        }
    }
    super::print(&out)?;
    let mut out = String::new();
    let all = !options.images || images(&config, &mut out).await?;
    super::print(&out)?;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says of each route's image whether it is there; gives whether each can be had, here or by a pull.
async fn images(config: &Config, out: &mut String) -> anyhow::Result<bool> {
    let engine = engine::connect(config, Use::Once).await?;
    let mut all = true;
    for (route, ProgramRoute { program, .. }) in served(&config.routes) {
        let route = route.name();
        if program.rootfs.is_some() {
            // Looked at above.
            all &= program.missing().is_empty() && EmbeddedEngine::look_at_root(program).problems.is_empty();
            continue;
        }
        // Looked for, and not pulled.
        let looked_for = Program { pull: PullPolicy::Never, ..program.clone() };
        match engine.image(&looked_for).await {
            Ok(image) if program.command_line(&image).is_empty() => {
                all = false;
                writeln!(
                    out,
                    "\nwarning: route `{route}`: {} names no program: `command` has to",
                    program.made_from()
                )?;
            }
            Ok(_) => writeln!(out, "\nroute `{route}`: {} is there", program.made_from())?,
            Err(error)
                if error.kind() == EngineErrorKind::ImageMissing && program.pull != PullPolicy::Never =>
            {
                writeln!(
                    out,
                    "\nroute `{route}`: {} is not here: it is pulled at the start",
                    program.made_from()
                )?;
            }
            Err(error) => {
                all = false;
                writeln!(out, "\nwarning: route `{route}`: {}", super::describe(&error.into()))?;
            }
        }
    }
    Ok(all)
}

/// Which engine each route's requests would go to.
async fn choices(config: &Config) -> Vec<Choice> {
    let root = Store::default_root();
    // None is made for this.
    let store = root
        .is_dir()
        .then(|| Store::open(root))
        .and_then(|opened| opened.inspect_err(|error| tracing::warn!("{error}: it counts as empty")).ok());
    survey(engine::programs(config), store.as_ref()).await
}

/// What may yet be otherwise: an engine on another machine has that one's files. The embedded engine is on none.
fn unless_elsewhere(route: &Route) -> &'static str {
    let program = route.program().map(|served| &served.program);
    match program.is_some_and(|program| program.rootfs.is_none() && program.engine != EngineChoice::Embedded)
    {
        true => ", unless its engine is on another machine",
        false => "",
    }
}

fn table(routes: &[Route], choices: &[Choice]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "ROUTE", "ENGINE", "IMAGE", "COMMAND", "OUTPUT", "NETWORK", "MEMORY", "TIMEOUT", "AT ONCE",
    ]);
    let mut choices = choices.iter();
    for route in routes {
        let Some(ProgramRoute { program, output, limits, .. }) = route.program() else {
            table.add_row(of_files(route));
            continue;
        };
        let Some(choice) = choices.next() else { continue };
        let command = program.entrypoint.iter().chain(&program.command).flatten();
        let command: Vec<_> = command.map(String::as_str).collect();
        table.add_row([
            route.name().to_string(),
            choice.engine.to_owned(),
            match &program.rootfs {
                Some(directory) => printable(&directory.display().to_string()),
                None => printable(&program.image),
            },
            match &route.kind {
                RouteKind::Scripts(scripts) => {
                    let what = if scripts.sends_files { "scripts and files in" } else { "scripts in" };
                    let place = if scripts.is_in_image { "image:" } else { "" };
                    printable(&format!("{what} {place}{}", scripts.directory.display()))
                }
                _ if command.is_empty() => "(the image's)".to_owned(),
                _ => printable(&command.join(" ")),
            },
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

/// The row of a route that runs nothing.
fn of_files(route: &Route) -> [String; 9] {
    let what = match &route.kind {
        RouteKind::Files(files) => printable(&format!("files in {}", files.directory.display())),
        RouteKind::Redirect(redirect) => printable(&format!("{} to {}", redirect.status, redirect.to)),
        _ => String::new(),
    };
    let mut row = [const { String::new() }; 9].map(|_| "-".to_owned());
    row[0] = route.name().to_string();
    row[3] = what;
    row
}

/// The named volumes of a program that are called as a directory is below `base`, where relative paths begin.
pub(super) fn names_of_directories<'a>(program: &'a Program, base: &Path) -> impl Iterator<Item = &'a str> {
    program.volumes.iter().filter_map(|volume| match volume {
        Volume::Named { name, .. } if base.join(name).is_dir() => Some(&**name),
        _ => None,
    })
}

/// A text in one line of a terminal: without characters that would move or colour what comes after.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// A limit, or the word for none.
pub(super) fn or_none(limit: Option<impl Display>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}
