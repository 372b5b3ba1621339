//! Clients of plain TCP with different addresses: each address of 127.0.0.0/8 belongs to the local machine, so one
//! machine can be many peers. The service counts its limits per address.

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

/// The size in bytes of a small receive buffer; the system raises it to a few thousand.
const NARROW: u32 = 1;

/// How many descriptors a test needs at most. Tests hold many sockets.
const DESCRIPTORS: u64 = 8192;

/// Opens a connection from an address.
pub(super) async fn connect_from(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    connect(TcpSocket::new_v4()?, source, to).await
}

/// Opens a connection with so small a receive buffer that the target keeps the unread bytes.
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

/// Connections whose peer sends nothing, open or still being opened; closed when this is dropped.
pub(super) struct Idle {
    _connections: Vec<AbortOnDropHandle<()>>,
}

/// Opens `count` connections and sends nothing on them. Connections beyond the limit of the target wait to be accepted.
pub(super) async fn open_idle(source: Ipv4Addr, to: SocketAddr, count: usize) -> Idle {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connecting = Box::pin(connect_from(source, to));
        // One poll sends the request for the connection; on one machine it also opens the connection if possible.
        let opened = poll_immediate(&mut connecting).await;
        connections.push(AbortOnDropHandle::new(tokio::spawn(async move {
            let connection = match opened {
                Some(connection) => connection,
                None => connecting.await,
            };
            // A refused connection is as good as an idle one. An open one stays open.
            let _open = connection;
            pending::<()>().await;
        })));
    }
    Idle { _connections: connections }
}

/// Opens `count` connections and sends the same bytes on each, but never reads.
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
        // A target that refuses may reset the connection before it has read all bytes.
        let _ = within("the bytes to be sent", stream.write_all(bytes)).await;
        streams.push(stream);
    }
    streams
}

/// The bytes that a connection delivers until its peer closes it.
pub(super) async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset ends a connection as well.
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
