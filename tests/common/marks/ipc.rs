//! Memory that is shared, System V's and POSIX's means of communication.

use super::*;

pub fn plant_shared_memory() -> Planted {
    // As shm_open(3) does it.
    said("/dev/shm", fs::write(format!("/dev/shm/{MARK}"), vec![b'x'; 1 << 20]))?;
    // MAP_SHARED | MAP_ANONYMOUS, and a file without a name.
    // SAFETY: a new mapping.
    let mapped = unsafe { mmap(std::ptr::null_mut(), 1 << 20, 3, 0x21, -1, 0) };
    check("mmap", mapped as i64)?;
    // SAFETY: it is a mebibyte long.
    unsafe { mapped.write_bytes(b'x', 1 << 20) };
    // SAFETY: the name is NUL-terminated.
    check("memfd_create", unsafe { syscall(SYS_MEMFD_CREATE, c"mark".as_ptr(), 0) })?;
    Ok(())
}

pub fn look_at_shared_memory() -> String {
    let mut out = String::new();
    tree("/dev/shm", &mut out);
    out + &text("/proc/self/maps").lines().filter(|line| line.contains("/dev/zero")).collect::<String>()
}

pub fn plant_system_v() -> Planted {
    // SAFETY: only numbers, and memory that is as long as it says.
    unsafe {
        let memory = check("shmget", shmget(KEY, 1 << 16, CREATE))?;
        let at = shmat(memory as c_int, std::ptr::null(), 0);
        check("shmat", at as i64)?;
        at.write_bytes(b'x', 1 << 16);
        let semaphores = check("semget", semget(KEY, 2, CREATE))?;
        // SETVAL
        check("semctl", semctl(semaphores as c_int, 0, 16, 7))?;
        let queue = check("msgget", msgget(KEY, CREATE))?;
        let message = [1_u64, 42];
        check("msgsnd", msgsnd(queue as c_int, message.as_ptr().cast(), 8, 0))?;
    }
    if text("/proc/sysvipc/shm").lines().count() != 2 {
        return Err("it does not show".to_owned());
    }
    Ok(())
}

pub fn look_at_system_v() -> String {
    // SAFETY: only numbers. Without IPC_CREAT: only what is there.
    let there = unsafe { [shmget(KEY, 0, 0), semget(KEY, 0, 0), msgget(KEY, 0)] };
    format!(
        "{there:?}\n{}{}{}",
        text("/proc/sysvipc/shm"),
        text("/proc/sysvipc/sem"),
        text("/proc/sysvipc/msg")
    )
}

const QUEUE: &CStr = c"mark-of-another-request";

pub fn plant_queues() -> Planted {
    // O_CREAT | O_RDWR. The kernel takes the name without its slash.
    // SAFETY: the name is NUL-terminated; without attributes there are the kernel's own.
    unsafe {
        let none = std::ptr::null::<c_void>();
        let queue = check("mq_open", syscall(SYS_MQ_OPEN, QUEUE.as_ptr(), 0o102, 0o666, none))?;
        check("mq_send", syscall(SYS_MQ_TIMEDSEND, queue, c"mark".as_ptr(), 4, 0, none))?;
    }
    match fs::exists("/dev/mqueue/mark-of-another-request") {
        Ok(true) => Ok(()),
        _ => Err("it does not show".to_owned()),
    }
}

pub fn look_at_queues() -> String {
    let mut out = String::new();
    tree("/dev/mqueue", &mut out);
    // SAFETY: as above; without O_CREAT.
    let queue = unsafe { syscall(SYS_MQ_OPEN, QUEUE.as_ptr(), 0o2, 0, std::ptr::null::<c_void>()) };
    format!("{out}{queue}")
}
