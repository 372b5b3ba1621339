//! Clients of plain TCP that are told apart by their address: every address of 127.0.0.0/8 is this machine's, so one
//! test machine can be many peers.

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::poll_immediate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::harness::wait::within;

/// The address of a peer that misbehaves. The bystanders have others.
pub(super) const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// How many bytes a socket with little room takes; the system makes it a few thousand.
const NARROW: u32 = 1;

/// How many descriptors a test needs at most. Tests hold many sockets.
const DESCRIPTORS: u64 = 8192;

/// Opens a connection from an address.
pub(super) async fn connect_from(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    connect(TcpSocket::new_v4()?, source, to).await
}

/// Opens a connection whose peer has so little room that the target keeps what is not read.
pub(super) async fn connect_narrow(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(NARROW)?;
    connect(socket, source, to).await
}

async fn connect(socket: TcpSocket, source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    socket.bind((source, 0).into())?;
    let stream = within("a connection", socket.connect(to)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connections on which their peer says nothing, open or on the way; closed when this is dropped.
pub(super) struct Idle {
    _connections: Vec<AbortOnDropHandle<()>>,
}

/// Opens so many connections and says nothing on them. Those that the target has no room for wait to be let in.
pub(super) async fn open_idle(source: Ipv4Addr, to: SocketAddr, count: usize) -> Idle {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connecting = Box::pin(connect_from(source, to));
        // Polled once, the connection is asked for, and on one machine it is also made where there is room.
        let made = poll_immediate(&mut connecting).await;
        connections.push(AbortOnDropHandle::new(tokio::spawn(async move {
            let connection = match made {
                Some(connection) => connection,
                None => connecting.await,
            };
            // Refused is as good as idle. One that is open stays so.
            let _open = connection;
            pending::<()>().await;
        })));
    }
    Idle { _connections: connections }
}

/// Opens so many connections and sends the same bytes on each, but never reads.
pub(super) async fn send_and_never_read(
    source: Ipv4Addr,
    to: SocketAddr,
    count: usize,
    bytes: &[u8],
) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let opened = within("a connection", connect_from(source, to)).await;
        let mut stream = opened.expect("a descriptor and a port");
        // A target that refuses may reset the connection before it has all of it.
        let _ = within("the bytes to be taken", stream.write_all(bytes)).await;
        streams.push(stream);
    }
    streams
}

/// What a connection delivers until its peer closes it.
pub(super) async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = within("the end of a connection", stream.read_to_end(&mut bytes)).await;
    bytes
}

/// Lets this process hold many sockets.
pub(super) fn reserve_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|soft| soft < DESCRIPTORS) {
        let current = limit.maximum.map_or(Some(DESCRIPTORS), |hard| Some(hard.min(DESCRIPTORS)));
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).expect("more descriptors");
    }
}
