//! Processes that stay, and what is counted of them.

use super::*;

/// One that is in a session of its own, ignores every signal, and lets go of the streams.
fn orphan() -> Planted {
    // SAFETY: one thread, so the child has all that it needs.
    match check("fork", unsafe { fork() })? {
        0 => {
            // SAFETY: numbers only.
            unsafe {
                setsid();
                for number in 1..=64 {
                    // SIG_IGN
                    signal(number, 1);
                }
                prctl(15, c"mark".as_ptr());
                if fork() == 0 {
                    setsid();
                }
                for stream in 0..=2 {
                    close(stream);
                }
                loop {
                    pause();
                }
            }
        }
        _ => Ok(()),
    }
}

pub fn plant_processes() -> Planted {
    for _ in 0..5 {
        orphan()?;
    }
    Ok(())
}

pub fn look_at_processes() -> String {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok()?.parse::<u32>().ok());
    let mut names: Vec<_> = pids.map(|pid| text(&format!("/proc/{pid}/comm"))).collect();
    names.sort();
    names.concat()
}

/// Most of what the route lets be used: pages, files in memory, what the kernel keeps for names.
pub fn plant_memory() -> Planted {
    said("/tmp", fs::write(format!("/tmp/{MARK}"), vec![b'x'; 8 << 20]))?;
    said("/dev/shm", fs::write(format!("/dev/shm/{MARK}"), vec![b'x'; 4 << 20]))?;
    for number in 0..500 {
        said("/tmp", fs::write(format!("/tmp/{number}"), "x"))?;
    }
    std::mem::forget(vec![b'x'; 6 << 20]);
    for _ in 0..5 {
        orphan()?;
    }
    Ok(())
}

/// That as much can be used again; else the kernel kills this one.
pub fn look_at_memory() -> String {
    match plant_memory() {
        Ok(()) => "there is room".to_owned(),
        Err(why) => why,
    }
}

pub fn plant_pids() -> Planted {
    let mut made = 0;
    while made < 1000 && orphan().is_ok() {
        made += 1;
    }
    if made < 2 { Err(format!("only {made}")) } else { Ok(()) }
}

pub fn look_at_pids() -> String {
    let mut children = Vec::new();
    // As many at once as a third of the route's limit.
    for _ in 0..8 {
        match Command::new("/proc/self/exe")
            .env("QUERY_STRING", "stay")
            .stdin(std::process::Stdio::piped())
            .spawn()
        {
            Ok(child) => children.push(child),
            Err(error) => return error.to_string(),
        }
    }
    for child in &mut children {
        drop(child.stdin.take());
        _ = child.wait();
    }
    "there is room".to_owned()
}
