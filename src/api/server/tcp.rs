//! TCP sockets: how they are set up, and the close of one that is not served. Nothing here knows a protocol.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// After how long without a sign of life the system probes the other end, how often, and for how long it resends what
/// is not confirmed: a link that was cut frees its connection in less than a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 4;
const UNCONFIRMED: Duration = Duration::from_secs(40);

/// How long a connection that is rejected may take to be read to its end.
const LINGER: Duration = Duration::from_secs(2);

/// Sets a socket up: responses are sent without delay, and a peer that is gone is noticed.
pub(in crate::api) fn set_up(stream: &TcpStream, write_timeout: Duration) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_PROBES);
    // The system also drops a peer that confirms and reads nothing: not before that peer has had its time.
    let unconfirmed = UNCONFIRMED.max(write_timeout + KEEPALIVE_EVERY);
    let kept =
        socket.set_tcp_keepalive(&keepalive).and_then(|()| socket.set_tcp_user_timeout(Some(unconfirmed)));
    if let Err(error) = kept {
        tracing::debug!(%error, "a connection is not watched by the system");
    }
}

/// Answers a connection that is not served, and closes it in stages: what the peer has sent, or still sends, is read
/// and dropped until the peer ends or the time is over, so that the answer reaches it (RFC 9112, section 9.6).
pub(in crate::api) async fn answer_and_close(mut stream: TcpStream, answer: &[u8]) {
    let close = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // A peer that does not read loses nothing.
    let _ = timeout(LINGER, close).await;
}
