//! `dcgi inspect`

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use bytesize::ByteSize;
use clap::Args;
use dcgi::Handler;
use dcgi::engine::{EngineError, EngineErrorKind, Isolation, PullPolicy};
use http::Method;

use super::check::{or_none, printable};
use super::engine::Use;
use super::{ConfigFile, engine, url};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// A path such as /hello/x?y, or http://host/path where routes have hosts
    url: String,
    #[command(flatten)]
    file: ConfigFile,
    /// The request's method
    #[arg(short = 'X', long, default_value = "GET")]
    method: Method,
    /// Show the container too, as the engine would be asked for it
    #[arg(short, long)]
    verbose: bool,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let config = options.file.load()?;
    let (head, ()) = url::request(&options.url)?.method(options.method).body(())?.into_parts();
    let engine = engine::connect(&config, Use::Once).await?;
    let handler = Handler::builder(engine.clone()).routes(config.routes).build();
    let found = handler.inspect(&head).await?;
    let choice = engine.choice(&found.route.program).await;
    let (route, limits) = (&found.route, &found.route.limits);
    let mut out = String::new();

    writeln!(out, "route      {}", found.name)?;
    writeln!(out, "engine     {}", choice.engine)?;
    writeln!(out, "           {}", choice.why)?;
    match &route.program.rootfs {
        Some(directory) => writeln!(out, "rootfs     {}", directory.display())?,
        None => writeln!(out, "image      {}", route.program.image)?,
    }
    let image = found.image.as_ref().ok().cloned().unwrap_or_default();
    if let Err(error) = &found.image {
        let is_pulled =
            error.kind() == EngineErrorKind::ImageMissing && route.program.pull != PullPolicy::Never;
        match is_pulled {
            true => writeln!(out, "           it is not here: it is pulled when the route is first used")?,
            false => writeln!(out, "           {}", error_of(error))?,
        }
    }
    let own = found.invocation.command.clone();
    let mut command = own.unwrap_or_else(|| route.program.command_line(&image));
    command.extend(found.invocation.args.iter().cloned());
    let of_the_image = found.image.is_err().then_some("(the image's)");
    writeln!(
        out,
        "command    {}",
        of_the_image.filter(|_| command.is_empty()).unwrap_or(&printable(&command.join(" ")))
    )?;
    let folder = found.invocation.working_dir.as_deref().unwrap_or(&image.working_dir);
    let folder = of_the_image.filter(|_| folder.is_empty()).unwrap_or(folder);
    writeln!(out, "directory  {}", if folder.is_empty() { "/" } else { folder })?;
    match route.program.isolation {
        Isolation::Fresh => writeln!(out, "isolation  fresh: each request has a container of its own")?,
        Isolation::Shared { replicas } => writeln!(
            out,
            "isolation  shared: {replicas} of them; memory, cpus and pids are for all requests in one together"
        )?,
    }
    writeln!(out, "limits     timeout {}", or_none(limits.timeout.map(humantime::format_duration)))?;
    writeln!(
        out,
        "           idle_timeout {}",
        or_none(limits.idle_timeout.map(humantime::format_duration))
    )?;
    writeln!(out, "           linger {}", humantime::format_duration(limits.linger))?;
    writeln!(out, "           kill_grace {}", humantime::format_duration(limits.kill_grace))?;
    writeln!(out, "           max_concurrency {}, queue {}", limits.max_concurrency, limits.queue)?;
    writeln!(out, "           max_request_body {}", or_none(limits.max_request_body.map(ByteSize::b)))?;
    writeln!(out, "           max_response_body {}", or_none(limits.max_response_body.map(ByteSize::b)))?;
    writeln!(out, "           memory {}", or_none(route.program.memory.map(ByteSize::b)))?;
    writeln!(out, "           cpus {}, pids {}", or_none(route.program.cpus), or_none(route.program.pids))?;
    match &route.program.rootfs {
        Some(_) => writeln!(out, "\nenvironment")?,
        None => writeln!(out, "\nenvironment, over the image's own")?,
    }
    for (name, value) in &route.program.env {
        if !found.invocation.env.iter().any(|(computed, _)| computed == name) {
            writeln!(out, "  {name}={}", printable(value))?;
        }
    }
    for (name, value) in &found.invocation.env {
        writeln!(out, "  {name}={}", printable(&value.display().to_string()))?;
    }
    if options.verbose {
        writeln!(out, "\ncontainer, as the engine would be asked for it")?;
        writeln!(out, "{}", serde_json::to_string_pretty(&found.container)?)?;
    }
    super::print(&out)?;
    Ok(ExitCode::SUCCESS)
}

/// An error of the engine with what lies below it, in one line.
fn error_of(error: &EngineError) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
