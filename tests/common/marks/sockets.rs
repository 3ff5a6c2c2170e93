//! Sockets that need no network.

use super::*;

pub fn plant_abstract_sockets() -> Planted {
    let address = said("an abstract name", UnixAddress::from_abstract_name(MARK))?;
    let listener = said("bind", UnixListener::bind_addr(&address))?;
    let client = said("connect", UnixStream::connect_addr(&address))?;
    let datagrams = said("a name", UnixAddress::from_abstract_name("mark-of-datagrams"))?;
    let datagram = said("bind", UnixDatagram::bind_addr(&datagrams))?;
    // Nobody closes them.
    std::mem::forget((listener, client, datagram));
    Ok(())
}

#[repr(C)]
pub struct Part {
    base: *const c_void,
    size: usize,
}

/// `struct msghdr`.
#[repr(C)]
pub struct MessageHeader {
    name: *const c_void,
    name_size: u32,
    parts: *const Part,
    part_count: usize,
    control: *const c_void,
    control_size: usize,
    flags: c_int,
}

/// `struct cmsghdr` with one descriptor, and what pads it.
#[repr(C)]
struct Rights {
    size: usize,
    level: c_int,
    kind: c_int,
    descriptors: [c_int; 2],
}

/// A pair of sockets, each in flight in the other, with a bound one beside: nobody has them open, and they live until
/// the kernel collects such garbage.
pub fn plant_socket_cycle() -> Planted {
    let address = said("an abstract name", UnixAddress::from_abstract_name(MARK))?;
    let bound = said("bind", UnixListener::bind_addr(&address))?.into_raw_fd();
    for _ in 0..3 {
        let mut ends = [0; 2];
        // AF_UNIX, SOCK_DGRAM.
        // SAFETY: there is room for two.
        check("socketpair", unsafe { socketpair(1, 2, 0, ends.as_mut_ptr()) })?;
        let [a, b] = ends;
        for (through, descriptors) in [(a, [a, bound]), (b, [b, bound])] {
            let part = Part { base: MARK.as_ptr().cast(), size: 1 };
            let rights = Rights { size: 24, level: 1, kind: 1, descriptors };
            let message = MessageHeader {
                name: std::ptr::null(),
                name_size: 0,
                parts: &part,
                part_count: 1,
                control: (&raw const rights).cast(),
                control_size: 24,
                flags: 0,
            };
            // SAFETY: everything that it points to is as long as it says.
            check("sendmsg", unsafe { sendmsg(through, &message, 0) } as i64)?;
        }
        // SAFETY: they are ours.
        unsafe {
            close(a);
            close(b);
        }
    }
    // SAFETY: as above.
    unsafe { close(bound) };
    if UnixListener::bind_addr(&address).is_ok() {
        return Err("the name is free already".to_owned());
    }
    Ok(())
}

pub fn look_at_unix_sockets() -> String {
    let bound = |name: &str| UnixAddress::from_abstract_name(name).and_then(|a| UnixListener::bind_addr(&a));
    let before = text("/proc/net/unix").lines().count();
    format!("{before} {:?} {:?}", bound(MARK).map(drop), bound("mark-of-datagrams").map(drop))
}
