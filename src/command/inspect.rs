//! `dcgi inspect`

use std::process::ExitCode;

use bytesize::ByteSize;
use clap::Args;
use dcgi::Handler;
use dcgi::engine::Isolation;
use http::Method;

use super::check::or_none;
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
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let config = options.file.load()?;
    let (head, ()) = url::request(&options.url)?.method(options.method).body(())?.into_parts();
    let engine = engine::connect(&config, Use::Once).await?;
    let handler = Handler::builder(engine.clone()).routes(config.routes).build();
    let found = handler.inspect(&head).await?;
    let choice = engine.choice(&found.route.program).await;
    let (route, limits) = (&found.route, &found.route.limits);

    println!("route      {}", found.name);
    println!("engine     {}", choice.engine);
    println!("           {}", choice.why);
    match &route.program.rootfs {
        Some(directory) => println!("rootfs     {}", directory.display()),
        None => println!("image      {}", route.program.image),
    }
    let mut command = route.program.command_line(&found.image);
    command.extend(found.invocation.args.iter().cloned());
    println!("command    {}", command.join(" "));
    let folder = found.invocation.working_dir.as_deref().unwrap_or(&found.image.working_dir);
    println!("directory  {}", if folder.is_empty() { "/" } else { folder });
    match route.program.isolation {
        Isolation::Fresh => println!("isolation  fresh: each request has a container of its own"),
        Isolation::Shared { replicas } => println!(
            "isolation  shared: {replicas} of them; memory, cpus and pids are for all requests in one together"
        ),
    }
    println!("limits     timeout {}", or_none(limits.timeout.map(humantime::format_duration)));
    println!("           idle_timeout {}", or_none(limits.idle_timeout.map(humantime::format_duration)));
    println!("           linger {}", humantime::format_duration(limits.linger));
    println!("           kill_grace {}", humantime::format_duration(limits.kill_grace));
    println!("           max_concurrency {}, queue {}", limits.max_concurrency, limits.queue);
    println!("           max_request_body {}", or_none(limits.max_request_body.map(ByteSize::b)));
    println!("           max_response_body {}", or_none(limits.max_response_body.map(ByteSize::b)));
    println!("           memory {}", or_none(route.program.memory.map(ByteSize::b)));
    println!("           cpus {}, pids {}", or_none(route.program.cpus), or_none(route.program.pids));
    match &route.program.rootfs {
        Some(_) => println!("\nenvironment"),
        None => println!("\nenvironment, over the image's own"),
    }
    for (name, value) in &route.program.env {
        if !found.invocation.env.iter().any(|(computed, _)| computed == name) {
            println!("  {name}={value}");
        }
    }
    for (name, value) in &found.invocation.env {
        println!("  {name}={}", value.display());
    }
    println!("\ncontainer, as the engine would be asked for it");
    println!("{}", serde_json::to_string_pretty(&found.container)?);
    Ok(ExitCode::SUCCESS)
}
