//! `dcgi --help`, with its commands by what they are for: clap lists them all under one heading.

use std::fmt::Write;

use clap::Command;
use clap::builder::StyledStr;

/// Every command that is shown, once.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Serve", &["serve", "run", "cgi-bin", "demo"]),
    ("Configure and look", &["init", "check", "inspect", "invoke"]),
    ("Images", &["image"]),
    ("Other", &["agent", "completions", "man", "help"]),
];

/// How wide the column of names is.
const NAMES: usize = 13;

const TEMPLATE: &str = "\
{before-help}{about-with-newline}
{usage-heading} {usage}{after-help}

Options:
{options}";

/// The same command line with another help. What it says of a command is the command's own.
pub(super) fn grouped(command: Command) -> Command {
    let mut text = StyledStr::new();
    let styles = command.get_styles();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut lines = String::new();
    for (heading, names) in GROUPS {
        _ = write!(lines, "\n{header}{heading}:{header:#}\n");
        for name in names {
            let about = match command.find_subcommand(name) {
                Some(command) => command.get_about().map(ToString::to_string).unwrap_or_default(),
                None => "Print this message or the help of the given command".to_owned(),
            };
            _ = writeln!(lines, "  {literal}{name:NAMES$}{literal:#}{about}");
        }
    }
    _ = write!(text, "{}", lines.trim());
    command.after_help(text).help_template(TEMPLATE)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_that_is_shown_is_in_one_group() {
        let command = super::super::Command::command();
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
        let mut shown: Vec<_> = shown.map(Command::get_name).chain(["help"]).collect();
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        shown.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(shown, grouped);
        assert!(grouped.iter().all(|name| name.len() < NAMES));
    }
}
