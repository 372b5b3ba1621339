//! Ports for programs that cannot choose a free one by themselves, and the ports that a program has chosen. Any program
//! can take a port that was free a moment ago: so these ports are outside of the range from which the kernel assigns
//! ports, and no two tests of a run get the same one.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpSocket;

/// The lowest port that is used.
const LOWEST: u16 = 10_000;

/// A port for a program that a test starts. The kernel does not assign it to a connection or another listener.
pub(crate) fn for_a_program() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("the kernel's range");
    let highest: u16 = range.split_whitespace().next().and_then(|low| low.parse().ok()).expect("a number");
    assert!(highest > LOWEST, "the kernel assigns every port from {highest} on");
    let count = highest - LOWEST;
    // Other runs at the same time begin at another port.
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

/// A port without a listener, as long as this value is kept: connections are refused, and no other program gets the
/// port.
pub(crate) struct Closed {
    socket: TcpSocket,
}

impl Closed {
    pub(crate) fn new() -> Closed {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Bound, and never listening.
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
        // The state of a listener is 0A; the tenth column is the inode.
        let is_its = *columns.get(3)? == "0A" && sockets.contains(*columns.get(9)?);
        let (_, port) = columns[1].rsplit_once(':')?;
        is_its.then(|| u16::from_str_radix(port, 16).ok()).flatten()
    };
    tables.lines().filter_map(listening).collect()
}
