//! The socket of a gRPC connection. While its peer reads nothing, the socket reads nothing from it either: each call
//! that is read gets a response, and responses without a message wait in the library, outside its flow control.
//! Meanwhile 128 KiB count against the peer's share of memory, for what the library may hold; where the share is used
//! up, the connection ends with an error. A write that succeeds ends the pause and wakes the task itself, because the
//! read that was put off has registered no waker.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::api::server::connection::Connection;
use crate::service::quota::{Permit, Resource};

/// The bytes that the library may hold for a connection whose peer reads nothing: a response for each call, and more.
const BLOCKED: usize = 128 << 10;

/// The socket.
pub(super) struct Socket<S> {
    stream: S,
    connection: Arc<Connection>,
    /// The memory that counts while the peer reads nothing.
    blocked: Option<Permit>,
}

impl<S> Socket<S> {
    /// The socket of that connection.
    pub(super) fn new(stream: S, connection: Arc<Connection>) -> Socket<S> {
        Socket { stream, connection, blocked: None }
    }

    /// Records whether the peer has read something.
    ///
    /// # Errors
    /// Where it has not, and its memory share is used up.
    fn record(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match (&written, self.blocked.is_some()) {
            (Poll::Pending, false) => match self.connection.peer().take(Resource::Memory, BLOCKED) {
                Ok(memory) => {
                    self.connection.waits();
                    self.blocked = Some(memory);
                }
                Err(_) => return Poll::Ready(Err(io::Error::other("no memory is left for unread answers"))),
            },
            (Poll::Ready(_), true) => {
                self.unblock();
                // The library must poll the socket again, because the last read was put off.
                cx.waker().wake_by_ref();
            }
            _ => {}
        }
        written
    }

    fn unblock(&mut self) {
        if self.blocked.take().is_some() {
            self.connection.took();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.blocked {
            Some(_) => Poll::Pending,
            None => Pin::new(&mut self.stream).poll_read(cx, buffer),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.record(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.record(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> Drop for Socket<S> {
    fn drop(&mut self) {
        self.unblock();
    }
}
