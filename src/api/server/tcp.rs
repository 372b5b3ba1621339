//! TCP sockets: their options, and the close of a socket that is not served. Responses are sent without delay, and a
//! broken link frees its connection in less than a minute, unless the write timeout is longer. An answer to a socket
//! that is not served reaches its peer: what the peer still sends is read and dropped for two seconds at most. A
//! failure here has no effect beyond its connection. The callers bring the bytes of the answer; nothing here belongs to
//! a protocol.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The idle time before the system probes the peer, the pause between probes, their number, and how long the system
/// resends unconfirmed data: a broken link frees its connection in less than a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 4;
const UNCONFIRMED: Duration = Duration::from_secs(40);

/// How long the rest of a rejected connection is read.
const LINGER: Duration = Duration::from_secs(2);

/// Sets a socket's options: responses are sent without delay, and a peer that is gone is detected.
pub(in crate::api) fn set_up(stream: &TcpStream, write_timeout: Duration) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_PROBES);
    // The system also drops a peer that reads nothing, which must not happen before the write timeout.
    let unconfirmed = UNCONFIRMED.max(write_timeout + KEEPALIVE_EVERY);
    let kept =
        socket.set_tcp_keepalive(&keepalive).and_then(|()| socket.set_tcp_user_timeout(Some(unconfirmed)));
    if let Err(error) = kept {
        tracing::debug!(%error, "TCP keepalive cannot be set for a connection");
    }
}

/// Answers a connection that is not served, and closes it in stages: data that the peer still sends is read and dropped
/// until the peer ends or the timeout, so that the answer reaches it (RFC 9112, section 9.6).
pub(in crate::api) async fn answer_and_close(mut stream: TcpStream, answer: &[u8]) {
    let close = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // A failure has no effect beyond this connection.
    let _ = timeout(LINGER, close).await;
}
