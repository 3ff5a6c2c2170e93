//! What a process is born with.

use super::*;

pub fn plant_process() -> Planted {
    // SAFETY: numbers, and memory as long as it says.
    unsafe {
        umask(0o777);
        check("chdir", i64::from(std::env::set_current_dir("/tmp").map_or(-1, |()| 0)))?;
        check("setpriority", setpriority(0, 0, 15))?;
        // SCHED_IDLE, of priority 0.
        check("sched_setscheduler", sched_setscheduler(0, 5, &0))?;
        check("sched_setaffinity", sched_setaffinity(0, 8, &1))?;
        // RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_FSIZE.
        for resource in [7, 6, 1] {
            check("setrlimit", setrlimit(resource, &[16, 16]).min(0))?;
        }
        for number in 1..=64 {
            signal(number, 1);
        }
        check("sigprocmask", sigprocmask(0, &u64::MAX, std::ptr::null_mut()))?;
        // PR_SET_NAME, PR_SET_TIMERSLACK, PR_SET_CHILD_SUBREAPER.
        prctl(15, c"mark".as_ptr());
        prctl(29, 1_000_000_u64);
        prctl(36, 1_u64);
    }
    said("oom_score_adj", fs::write("/proc/self/oom_score_adj", "1000"))?;
    said("coredump_filter", fs::write("/proc/self/coredump_filter", "0"))
}

pub fn look_at_process() -> String {
    // SAFETY: numbers only.
    let (mask, nice) = unsafe {
        let mask = umask(0);
        umask(mask);
        (mask, getpriority(0, 0))
    };
    let mut out = format!("umask {mask:o} nice {nice} cwd {:?}\n", std::env::current_dir());
    for line in text("/proc/self/status").lines() {
        let key = line.split(':').next().unwrap_or_default();
        if [
            "Umask",
            "SigP",
            "SigB",
            "SigI",
            "SigC",
            "Shd",
            "Cap",
            "Cpus_allowed",
            "NoNew",
            "Seccomp",
            "Groups",
            "Uid",
            "Gid",
            "Name",
        ]
        .iter()
        .any(|wanted| key.starts_with(wanted))
        {
            writeln!(out, "{line}").unwrap();
        }
    }
    out += &text("/proc/self/limits");
    for name in ["oom_score_adj", "coredump_filter", "timerslack_ns"] {
        out += &text(&format!("/proc/self/{name}"));
    }
    let stat = text("/proc/self/stat");
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // proc(5): priority, nice, policy.
    write!(out, "{:?} {:?} {:?}", fields[15], fields[16], fields[38]).unwrap();
    let mut variables: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    variables.sort();
    writeln!(out, "{variables:?} {:?}", std::env::args().collect::<Vec<_>>()).unwrap();
    out
}

pub fn plant_descriptors() -> Planted {
    for number in 20..40 {
        let file = said("a file", fs::File::open("/proc/self/stat"))?;
        // F_DUPFD, and not closed on exec.
        // SAFETY: numbers only.
        check("fcntl", unsafe { fcntl(file.as_raw_fd(), 0, number) })?;
    }
    Ok(())
}

pub fn look_at_descriptors() -> String {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            let target = target.split(":[").next()?.to_owned();
            (!target.starts_with("/proc/")).then(|| format!("{} {target}", entry.file_name().display()))
        })
        .collect();
    names.sort();
    names.join("\n")
}

/// Writes into whatever of the first process's files takes it, whichever those are: a new kernel may have new ones.
pub fn plant_init() -> Planted {
    let mut taken = Vec::new();
    for path in files_of_init() {
        for text in ["0x1", "1", "19"] {
            if fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(text.as_bytes())).is_ok() {
                taken.push(path.clone());
                break;
            }
        }
    }
    for wanted in ["oom_score_adj", "coredump_filter"] {
        if !taken.iter().any(|path| path.ends_with(wanted)) {
            return Err(format!("{wanted} took nothing; these did: {taken:?}"));
        }
    }
    Ok(())
}

/// What the first process's files say that can be written to, and which files outside of processes can be.
pub fn look_at_init() -> String {
    let mut out = String::new();
    for path in files_of_init() {
        // The number of its session's is another in another slot.
        let said = text(&path);
        let said = said.strip_prefix("/autogroup-").and_then(|said| said.split_once(' ')).map_or(&*said, |(_, said)| said);
        writeln!(out, "{path} {}", said.trim_end()).unwrap();
    }
    writable("/proc", &mut out);
    out
}

/// Those of the first process that can be opened to be written to, less those that say something else each time.
fn files_of_init() -> Vec<String> {
    const RESTLESS: [&str; 4] = ["mem", "sched", "clear_refs", "timerslack_ns"];
    let mut paths = Vec::new();
    for folder in ["/proc/1", "/proc/1/attr", "/proc/1/task/1"] {
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        paths.extend(names.filter(|name| !RESTLESS.contains(&&**name)).map(|name| format!("{folder}/{name}")));
    }
    paths.retain(|path| {
        fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
            && fs::OpenOptions::new().write(true).open(path).is_ok()
    });
    paths.sort();
    paths
}

fn writable(folder: &str, out: &mut String) {
    let mut paths: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_process = folder == "/proc" && name.bytes().all(|byte| byte.is_ascii_digit());
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_dir() && !is_process {
            writable(&path.to_string_lossy(), out);
        } else if found.is_file() && fs::OpenOptions::new().write(true).open(&path).is_ok() {
            writeln!(out, "writable: {}", path.display()).unwrap();
        }
    }
}
