//! What a page sees of the machine it runs on: in a container, not much.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// Where a page runs. What cannot be told is absent.
pub(super) struct Place {
    pub(super) hostname: Option<String>,
    pub(super) process: u32,
    /// The user's number.
    pub(super) user: Option<u32>,
    /// What it may beyond other users, a bit for each capability (capabilities(7)).
    pub(super) capabilities: Option<u64>,
    /// For how long the container has been there: its first process, that is.
    pub(super) age: Option<Duration>,
    /// A folder to write in.
    pub(super) scratch: PathBuf,
    /// Fills a buffer with random bytes.
    pub(super) random: fn(&mut [u8]) -> io::Result<()>,
    /// Waits for a while.
    pub(super) pause: fn(Duration),
}

impl Place {
    /// This process's own.
    pub(super) fn here() -> Self {
        Self {
            hostname: fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned()),
            process: std::process::id(),
            user: fs::metadata("/proc/self").ok().map(|own| own.uid()),
            capabilities: fs::read_to_string("/proc/self/status")
                .ok()
                .and_then(|status| capabilities(&status)),
            age: age(),
            scratch: "/tmp".into(),
            random,
            pause,
        }
    }

    /// The user, and what it may.
    pub(super) fn user_in_words(&self) -> Option<String> {
        let user = self.user?;
        Some(match self.capabilities {
            Some(0) => format!("{user}, no capabilities"),
            _ => user.to_string(),
        })
    }

    /// The container's age in words.
    pub(super) fn age_in_words(&self) -> Option<String> {
        let age = self.age?;
        // The clock that it is read from ticks a hundred times a second.
        if age < Duration::from_millis(10) {
            return Some("less than 0.01 seconds".to_owned());
        }
        Some(format!("{:.2} seconds", age.as_secs_f64()))
    }
}

/// The effective ones: `proc_pid_status(5)`.
fn capabilities(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

fn age() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/1/stat").ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    since_start(&stat, &uptime, rustix::param::clock_ticks_per_second())
}

/// How long ago a process started: field 22 of `proc_pid_stat(5)` against the first of `proc_uptime(5)`.
fn since_start(stat: &str, uptime: &str, ticks: u64) -> Option<Duration> {
    // The command's name, field 2, may itself hold spaces and parentheses.
    let started: f64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let now: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64((now - started / ticks as f64).max(0.0)).ok()
}

fn random(buffer: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(buffer)
}

#[expect(clippy::disallowed_methods, reason = "a CGI program has no runtime, and nothing else to do")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processs_age_is_told_whatever_its_name() {
        let fields: Vec<_> =
            (3..53).map(|field| if field == 22 { "1234".into() } else { field.to_string() }).collect();
        let stat = format!("1 (odd ) name) {}", fields.join(" "));
        let age = since_start(&stat, "13.50 20.00\n", 100).unwrap();
        assert_eq!(age.as_millis(), 1160);
        // Both clocks are coarse.
        assert_eq!(since_start(&stat, "12.30 0\n", 100).unwrap(), Duration::ZERO);
        assert_eq!(since_start("1 (x", "1 1", 100), None);
    }

    #[test]
    fn the_effective_capabilities_are_those_that_count() {
        assert_eq!(capabilities("CapPrm:\t00ff\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(capabilities("CapPrm:\t00ff\n"), None);
    }

    #[test]
    fn this_process_knows_itself() {
        let here = Place::here();
        assert_eq!(here.process, std::process::id());
        let own = fs::metadata("/proc/self/status").unwrap();
        assert_eq!(here.user, Some(own.uid()));
        assert!(here.hostname.is_some_and(|name| !name.is_empty() && !name.contains('\n')));
        assert!(here.age.is_some());
    }
}
