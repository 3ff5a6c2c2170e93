//! `dcgi image`

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytesize::ByteSize;
use clap::{Args, Subcommand};
use comfy_table::Table;
use dcgi::engine::ImageConfig;
use dcgi::images::{Image, Listed, Progress, Store};

/// How often the lines of a pull are drawn anew.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

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
        Action::Ls => writeln!(io::stdout(), "{}", table(&store.ls()?))?,
        Action::Rm { references } => return rm(&store, &references),
    }
    Ok(ExitCode::SUCCESS)
}

fn open(file: &PathBuf) -> anyhow::Result<Box<dyn Read>> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(File::open(file).with_context(|| format!("cannot read {}", file.display()))?))
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

/// What a terminal shows of a pull: a line for each layer, drawn anew in its place.
struct Lines {
    is_terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    layers: BTreeMap<String, (u64, u64)>,
    drawn: usize,
    last: Option<Instant>,
}

impl Lines {
    fn new(is_terminal: bool) -> Self {
        Self { is_terminal, state: Mutex::default() }
    }

    fn note(&self, progress: Progress) {
        if !self.is_terminal {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Progress::Layer { digest, received, total } => {
                let done = received == total;
                state.layers.insert(digest, (received, total));
                if done || state.last.is_none_or(|last| last.elapsed() >= REDRAW_INTERVAL) {
                    state.last = Some(Instant::now());
                    eprint!("{}", state.draw());
                }
            }
            Progress::Present => eprintln!("the image is here already"),
            Progress::Unpacking => eprintln!("unpacking"),
            _ => {}
        }
    }
}

impl State {
    fn draw(&mut self) -> String {
        // Up to the first line; each is cleared before it is written.
        let mut text = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        for (digest, (received, total)) in &self.layers {
            let digits: String = digest.trim_start_matches("sha256:").chars().take(12).collect();
            let (received, total) = (ByteSize::b(*received), ByteSize::b(*total));
            text += &format!("\x1b[2K{digits}  {received} of {total}\n");
        }
        self.drawn = self.layers.len();
        text
    }
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

    #[test]
    fn layers_are_drawn_in_their_places() {
        let mut state = State::default();
        state.layers.insert("sha256:0123456789abcdef".to_owned(), (1024, 2048));
        assert_eq!(state.draw(), "\x1b[2K0123456789ab  1.0 KiB of 2.0 KiB\n");
        assert!(state.draw().starts_with("\x1b[1A\x1b[2K"));
    }
}
