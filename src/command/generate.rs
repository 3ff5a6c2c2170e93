//! `dcgi completions` and `dcgi man`: both made from the command line's own description, so that neither tells of an
//! option that is not there.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Command;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell that is to complete
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Pages {
    /// The command that the page is about, such as `image pull`; dcgi itself where none is named
    #[arg(conflicts_with = "to")]
    command: Vec<String>,
    /// Write every page into this directory, such as /usr/local/share/man/man1
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

/// Prints a shell's completions.
pub(super) fn completions(options: &Completions) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut described(), "dcgi", &mut script);
    super::print(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a manual page, or writes all of them.
pub(super) fn man(options: &Pages) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &options.to {
        let written = clap_mangen::generate_to(described(), folder);
        written.with_context(|| format!("cannot write into {}: is it a directory?", folder.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut page = described();
    for name in &options.command {
        let Some(found) = page.find_subcommand(name) else {
            let names: Vec<_> = visible(&page).map(clap::Command::get_name).collect();
            bail!("`{}` has no command `{name}`; it has {}", page.get_name(), names.join(", "));
        };
        page = found.clone();
    }
    let mut text = Vec::new();
    Man::new(page).render(&mut text)?;
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The whole command line, with each command's full name.
fn described() -> clap::Command {
    let mut command = Command::command().disable_help_subcommand(true);
    command.build();
    command
}

fn visible(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}
