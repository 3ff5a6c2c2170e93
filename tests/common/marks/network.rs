//! Loopback, and what is counted of it.

use super::*;

pub fn plant_loopback() -> Planted {
    let listener = said("bind", TcpListener::bind("127.0.0.1:8081"))?;
    let client = said("connect", TcpStream::connect("127.0.0.1:8081"))?;
    let (server, _) = said("accept", listener.accept())?;
    // Whoever closes first is left in TIME_WAIT.
    drop(server);
    drop(client);
    std::mem::forget(listener);
    Ok(())
}

pub fn plant_refused() -> Planted {
    match TcpStream::connect("127.0.0.1:9") {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

pub fn plant_unreachable() -> Planted {
    let address: SocketAddr = (Ipv4Addr::new(192, 0, 2, 1), 9).into();
    match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
        Err(_) => Ok(()),
        Ok(_) => Err("it is reachable".to_owned()),
    }
}

pub fn plant_datagrams() -> Planted {
    let socket = said("bind", UdpSocket::bind("127.0.0.1:0"))?;
    said("send", socket.send_to(b"mark", "127.0.0.1:9"))?;
    Ok(())
}

pub fn look_at_network() -> String {
    let mut out = String::new();
    for name in [
        "dev",
        "tcp",
        "tcp6",
        "udp",
        "udp6",
        "unix",
        "snmp",
        "snmp6",
        "netstat",
        "sockstat",
        "sockstat6",
        "raw",
        "packet",
        "igmp",
        "arp",
        "route",
        "rt_cache",
        "ip6_flowlabel",
    ] {
        let content = text(&format!("/proc/net/{name}"));
        for line in content.lines().filter(|line| !line.starts_with("sockets:")) {
            // What stands behind the number in use is the whole machine's.
            let own = if name.starts_with("sockstat") { 3 } else { usize::MAX };
            let line: Vec<_> = line.split(' ').take(own).collect();
            let line = line.join(" ");
            writeln!(out, "{name}: {line}").unwrap();
        }
    }
    let bound = TcpListener::bind("127.0.0.1:8081").map(drop);
    writeln!(out, "{bound:?}").unwrap();
    out
}
