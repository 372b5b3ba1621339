//! Ports for programs that cannot be asked to choose one by themselves, and the ports that a program has chosen. A port
//! that was free a moment ago and is taken later belongs to the first who asks for it: so these come from outside of
//! the range of which the kernel hands out ports by itself, and no two tests of a run get the same one.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpSocket;

/// The lowest port that is handed out.
const LOWEST: u16 = 10_000;

/// A port for a program that a test starts. The kernel gives it to no connection and no other listener.
pub(crate) fn for_a_program() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("the kernel's range");
    let highest: u16 = range.split_whitespace().next().and_then(|low| low.parse().ok()).expect("a number");
    assert!(highest > LOWEST, "the kernel hands out every port from {highest} on");
    let count = highest - LOWEST;
    // Other runs on this machine begin elsewhere.
    let begin = (std::process::id().wrapping_mul(769) % u32::from(count)) as u16;
    for _ in 0..count {
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = LOWEST + (u32::from(begin) + u32::from(taken)).rem_euclid(u32::from(count)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("every port from {LOWEST} to {highest} is taken");
}

/// A port on which nothing listens, as long as this is kept: connections are refused, and no other program gets it.
pub(crate) struct Closed {
    socket: TcpSocket,
}

impl Closed {
    pub(crate) fn new() -> Closed {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Bound, and never told to listen.
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        Closed { socket }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        self.socket.local_addr().expect("a socket's address").to_string()
    }
}

/// The TCP ports on which a process listens now.
pub(crate) fn of_process(process: u32) -> BTreeSet<u16> {
    let open = fs::read_dir(format!("/proc/{process}/fd")).expect("a running process");
    let links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let sockets: BTreeSet<String> = links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = |name: &str| fs::read_to_string(format!("/proc/{process}/net/{name}")).unwrap_or_default();
    let tables = table("tcp") + &table("tcp6");
    let listening = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // The state of a listener is 0A; the inode stands in the tenth column.
        let is_its = *columns.get(3)? == "0A" && sockets.contains(*columns.get(9)?);
        let (_, port) = columns[1].rsplit_once(':')?;
        is_its.then(|| u16::from_str_radix(port, 16).ok()).flatten()
    };
    tables.lines().filter_map(listening).collect()
}
