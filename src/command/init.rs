//! `dcgi init`

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

/// What is written: a file that works as it is, on any machine where the embedded engine does.
const TEMPLATE: &str = include_str!("init.toml");

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The file to write; - for standard output
    #[arg(value_name = "FILE", default_value = "dcgi.toml")]
    file: PathBuf,
}

/// Writes a configuration to begin with. A file that is there already is never touched.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let file = &options.file;
    if file.as_os_str() == "-" {
        super::print(TEMPLATE)?;
        return Ok(ExitCode::SUCCESS);
    }
    let written = File::create_new(file).and_then(|mut file| file.write_all(TEMPLATE.as_bytes()));
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{} is there already, and stays as it is; `dcgi init FILE` writes another", file.display())
        }
        written => written.with_context(|| format!("cannot write {}", file.display()))?,
    }
    println!("wrote {}", file.display());
    let named = match file.as_os_str() == "dcgi.toml" {
        true => String::new(),
        false => format!(" -c {}", file.display()),
    };
    println!(
        "next: `dcgi check{named}` shows what is in it, `dcgi serve{named}` serves it at http://127.0.0.1:8080/hello"
    );
    Ok(ExitCode::SUCCESS)
}
