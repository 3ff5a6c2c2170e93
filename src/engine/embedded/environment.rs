//! A program's beginning: its command line, where it is looked for, and its environment.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::pool::Pool;
use crate::engine::Invocation;
use crate::sandbox::Run;
use crate::variables::is_request_variable;

/// Where programs are looked for where nobody says: as under Docker.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where an agent's executable is when a sandbox executes it: it comes as standard output.
const AGENT: &str = "/proc/self/fd/1";

impl Pool {
    /// The message that has a sandbox run the program for a request.
    pub(super) fn run(&self, invocation: &Invocation, host_name: &[u8]) -> Run {
        let config = self.base.config();
        let variables = self.variables(&invocation.env, host_name);
        let command_line = self.program.command_of(config, invocation);
        let path =
            variables.iter().find(|(name, _)| *name == b"PATH").map_or(b"".as_slice(), |(_, path)| path);
        let candidates = match command_line.first() {
            Some(program) => candidates(program, path),
            None => Vec::new(),
        };
        let directory = invocation.working_dir.as_deref().unwrap_or(&config.working_dir);
        Run::new(
            directory_or_root(directory).as_bytes(),
            candidates,
            command_line.iter().chain(&invocation.args).map(String::as_bytes),
            variables,
        )
    }

    /// The message that has a sandbox run an agent, which runs the program for many requests. Its standard input is the
    /// connection over which they come, its standard output the executable.
    pub(super) fn run_agent(&self, host_name: &[u8]) -> Run {
        let config = self.base.config();
        let directory = self.program.working_dir.as_deref().unwrap_or(&config.working_dir);
        let agent = ["dcgi", "agent", "listen", "--connected", "--"].map(str::as_bytes);
        let command_line = self.program.command_line(config);
        Run::new(
            directory_or_root(directory).as_bytes(),
            [AGENT.as_bytes().to_vec()],
            agent.into_iter().chain(command_line.iter().map(String::as_bytes)),
            self.variables(&[], host_name),
        )
    }

    /// As under Docker, the image's variables come first, then the program's, then those that are computed; and each
    /// container has `PATH`, `HOSTNAME` and `HOME`.
    fn variables<'a>(
        &'a self,
        computed: &'a [(String, OsString)],
        host_name: &'a [u8],
    ) -> Vec<(&'a [u8], &'a [u8])> {
        let names: HashSet<&str> = computed.iter().map(|(name, _)| name.as_str()).collect();
        let mut variables: Vec<(&[u8], &[u8])> = Vec::with_capacity(computed.len() + 8);
        let image = self.base.config().env.iter().filter_map(|entry| entry.split_once('='));
        let own = self.program.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in image.filter(|(name, _)| !self.program.env.contains_key(*name)).chain(own) {
            // What a request is, only it says.
            if !names.contains(name) && !is_request_variable(name) {
                variables.push((name.as_bytes(), value.as_bytes()));
            }
        }
        variables.extend(computed.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let home = self.plan.user.home.as_bytes();
        for (name, value) in [("PATH", PATH.as_bytes()), ("HOSTNAME", host_name), ("HOME", home)] {
            if !variables.iter().any(|(known, _)| *known == name.as_bytes()) {
                variables.push((name.as_bytes(), value));
            }
        }
        variables
    }
}

fn directory_or_root(directory: &str) -> &str {
    if directory.is_empty() { "/" } else { directory }
}

/// Where a program may be: at its path, or in one of the directories of `PATH`, as execvp(3) looks.
fn candidates(program: &str, path: &[u8]) -> Vec<Vec<u8>> {
    if program.contains('/') {
        return vec![program.as_bytes().to_vec()];
    }
    let folders = path.split(|byte| *byte == b':').filter(|folder| !folder.is_empty());
    folders.map(|folder| [folder, b"/", program.as_bytes()].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_in_the_path_and_a_path_is_not() {
        assert_eq!(candidates("perl", b"/bin::/usr/bin"), [b"/bin/perl".to_vec(), b"/usr/bin/perl".to_vec()]);
        assert_eq!(candidates("./perl", b"/bin"), [b"./perl".to_vec()]);
        assert_eq!(candidates("/app/x", b"/bin"), [b"/app/x".to_vec()]);
    }
}
