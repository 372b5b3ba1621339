//! The preface of a connection: HTTP/2 begins with a fixed text. It is read here because the library waits for it
//! without a timeout, and because a client of HTTP/1 should get a response that names the protocol of this port. The
//! bytes that were read are put back before the rest of the connection, so that the library reads all of them again. A
//! connection that sends another text gets that response and is closed; one that sends too little in time is closed
//! without it.

use std::io::Cursor;
use std::time::Duration;

use tokio::io::{AsyncReadExt, Chain, Join, join};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::api::server::tcp::answer_and_close;

/// The first bytes of every HTTP/2 connection (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The response to a client of HTTP/1.
const NOT_HTTP_2: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\n\
    content-length: 60\r\nconnection: close\r\n\r\nthis port speaks gRPC, over HTTP/2; HTTP/1 is on API_PORT.\r\n";

/// A connection whose preface the library reads again.
pub(super) type Begun = Join<Chain<Cursor<[u8; 24]>, OwnedReadHalf>, OwnedWriteHalf>;

/// Reads the preface, and puts it back before the rest of the connection. `None` where it does not arrive in time or is
/// another text.
pub(super) async fn read(mut stream: TcpStream, limit: Duration) -> Option<Begun> {
    let mut begin = [0; PREFACE.len()];
    timeout(limit, stream.read_exact(&mut begin)).await.ok()?.ok()?;
    if begin != *PREFACE {
        answer_and_close(stream, NOT_HTTP_2).await;
        return None;
    }
    let (reader, writer) = stream.into_split();
    Some(join(Cursor::new(begin).chain(reader), writer))
}
