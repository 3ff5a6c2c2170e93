//! `dcgi image`

mod progress;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use bytesize::ByteSize;
use clap::{Args, Subcommand};
use comfy_table::Table;
use dcgi::engine::ImageConfig;
use dcgi::images::{Image, Listed, Store};

use progress::{Lines, Watched};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The directory that images are kept in; /var/lib/dcgi for root, else ~/.local/share/dcgi
    #[arg(long, value_name = "DIR", env = "DCGI_STORE", global = true)]
    store: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Take an image from its registry
    Pull {
        /// Such as perl:5 or ghcr.io/owner/name@sha256:...
        reference: String,
    },
    /// Take the images of an archive: from `docker save`, or an OCI image layout
    Load {
        /// The archive, plain or compressed; - for standard input
        file: PathBuf,
    },
    /// Make an image from a root file system's archive, such as one from `docker export`
    Import(Import),
    /// List the images
    Ls,
    /// Remove images by their references or ids
    Rm {
        /// What to remove
        #[arg(required = true, value_name = "REFERENCE")]
        references: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Import {
    /// The tar archive, plain or compressed; - for standard input
    file: PathBuf,
    /// What the image is to be called
    reference: String,
    /// A variable of the image's environment
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<String>,
    /// The program: a JSON list of words, or one word each time
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// The arguments behind it, likewise
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR", default_value = "")]
    workdir: String,
    /// The user, by name or number, maybe with :GROUP
    #[arg(short, long, default_value = "")]
    user: String,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let store = Store::open(options.store.unwrap_or_else(Store::default_root))?;
    match options.action {
        Action::Pull { reference } => pull(&store, &reference).await?,
        Action::Load { file } => {
            let archive = open(&file)?;
            let within = || format!("cannot load {}", file.display());
            for image in store.load(archive).with_context(within)? {
                say(&image)?;
            }
        }
        Action::Import(import) => {
            let config = ImageConfig {
                entrypoint: words("--entrypoint", import.entrypoint)?,
                command: words("--cmd", import.cmd)?,
                working_dir: import.workdir,
                env: import.env,
                user: import.user,
            };
            let archive = open(&import.file)?;
            let within = || format!("cannot import {}", import.file.display());
            say(&store.import(archive, &import.reference, config).with_context(within)?)?;
        }
        Action::Ls => super::print(format!("{}\n", table(&store.ls()?)))?,
        Action::Rm { references } => return rm(&store, &references),
    }
    Ok(ExitCode::SUCCESS)
}

fn open(file: &PathBuf) -> anyhow::Result<Box<dyn Read>> {
    let is_terminal = io::stderr().is_terminal();
    if file.as_os_str() == "-" {
        let archive = io::stdin().lock();
        return Ok(match is_terminal {
            true => Box::new(Watched::new(archive, "standard input", None)),
            false => Box::new(archive),
        });
    }
    if file.is_dir() {
        bail!(
            "{0} is a directory: `tar -C {0} -c .`, and - in its place, gives an archive of it; or serve it as it is, \
             by `rootfs`",
            file.display()
        );
    }
    let within = || format!("cannot read {}", file.display());
    let archive = File::open(file).with_context(within)?;
    if !is_terminal {
        return Ok(Box::new(archive));
    }
    let about = archive.metadata().with_context(within)?;
    let size = about.is_file().then_some(about.len());
    Ok(Box::new(Watched::new(archive, &file.display().to_string(), size)))
}

/// The image that there is now.
fn say(image: &Image) -> io::Result<()> {
    let mut out = io::stdout();
    if image.reference() == image.id() {
        return writeln!(out, "{}", image.id());
    }
    writeln!(out, "{} {}", image.reference(), image.id())
}

/// Removes what can be removed, and says what cannot.
fn rm(store: &Store, references: &[String]) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let mut out = io::stdout();
    for reference in references {
        match store.rm(reference) {
            Ok(removed) => {
                for reference in &removed.references {
                    writeln!(out, "forgot {reference}")?;
                }
                if let Some(image) = &removed.image {
                    writeln!(out, "removed {image}")?;
                }
            }
            Err(error) => {
                eprintln!("dcgi: {}", super::describe(&error.into()));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn table(listed: &[Listed]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["REFERENCE", "ID", "ARCHITECTURE", "SIZE", "CREATED", "IMPORTED"]);
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    for image in listed {
        let digits = image.id.trim_start_matches("sha256:");
        let created = image.created.parse::<humantime::Timestamp>().ok();
        table.add_row([
            or_dash(image.reference.as_deref().unwrap_or_default()),
            digits.chars().take(12).collect(),
            or_dash(&image.architecture),
            ByteSize::b(image.size).to_string(),
            created.map_or_else(|| "-".to_owned(), |time| seconds(time.into())),
            seconds(image.imported),
        ]);
    }
    table
}

fn seconds(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A command line that is given as a JSON list, or word by word.
fn words(option: &str, given: Vec<String>) -> anyhow::Result<Vec<String>> {
    match given.as_slice() {
        [list] if list.starts_with('[') => serde_json::from_str(list)
            .map_err(|error| anyhow!("{option} {list}: expected a JSON list of words: {error}")),
        _ => Ok(given),
    }
}

fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

async fn pull(store: &Store, reference: &str) -> anyhow::Result<()> {
    let lines = Lines::new(io::stderr().is_terminal());
    eprintln!("pulling {reference}");
    let image = store.pull(reference, |progress| lines.note(progress)).await?;
    eprintln!("pulled {reference}");
    Ok(say(&image)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_a_json_list_or_given_word_by_word() {
        let given = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(words("--cmd", given(&[r#"["a b", "c"]"#])).unwrap(), ["a b", "c"]);
        assert_eq!(words("--cmd", given(&["a b", "c"])).unwrap(), ["a b", "c"]);
        assert_eq!(words("--cmd", given(&["a"])).unwrap(), ["a"]);
        let error = words("--cmd", given(&["[1]"])).unwrap_err().to_string();
        assert!(error.contains("--cmd [1]: expected a JSON list of words"), "{error}");
    }
}
