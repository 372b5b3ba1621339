//! The socket of an HTTP connection, with the limits that only the socket can enforce: the idle time of a connection,
//! the time and the memory of a request's head, and a staged close, so that a response reaches a peer that is still
//! sending (RFC 9112, section 9.6). It knows nothing of the bytes it carries.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::api::server::connection::Connection;
use crate::service::quota::{Permit, Resource};

/// The most bytes that are read at once, just below the HTTP library's first buffer: a read that fills the buffer
/// doubles it, and each idle connection would keep a buffer of 64 KiB.
const READ: usize = (8 << 10) - 1;

/// The fixed cost of a connection includes a head up to this size; more counts as memory of its peer.
const FREE_HEAD: usize = 8 << 10;

/// Buffers of up to this many bytes in total are copied into one before they are sent: that costs less than a vectored
/// write.
const COPIED: usize = 1 << 10;

/// How long the rest of a request is read and dropped after its response.
const LINGER: Duration = Duration::from_secs(5);

/// The limits of a socket.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Limits {
    /// How long a connection may be idle between two requests.
    pub(in crate::api) idle: Duration,
    /// How long the head of a request may take; for the first one, from the opening of the connection.
    pub(in crate::api) head: Duration,
}

/// The socket.
pub(in crate::api) struct Socket {
    stream: Take<TcpStream>,
    connection: Arc<Connection>,
    limits: Limits,
    head: Head,
    timer: Pin<Box<Sleep>>,
    closing: Closing,
    has_peer_ended: bool,
}

/// The head of a request that is arriving.
#[derive(Debug)]
struct Head {
    /// The number of requests that had arrived before it.
    after: u64,
    /// When its first byte arrived.
    began: Option<Instant>,
    bytes: usize,
    /// The memory of the connection's buffer beyond the free size. It stays to the end, as the buffer does.
    memory: Option<Permit>,
}

/// The stage of the close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// The socket is open.
    Open,
    /// Nothing more is sent; bytes that still arrive are dropped until then.
    Until(Instant),
}

impl Socket {
    /// The socket of a connection that has just been accepted.
    pub(in crate::api) fn new(stream: TcpStream, connection: Arc<Connection>, limits: Limits) -> Socket {
        let opened = Instant::now();
        Socket {
            stream: stream.take(READ as u64),
            connection,
            limits,
            // The time of the first head begins with the connection.
            head: Head { after: 0, began: Some(opened), bytes: 0, memory: None },
            timer: Box::pin(sleep_until(opened + limits.head)),
            closing: Closing::Open,
            has_peer_ended: false,
        }
    }

    /// Counts bytes of a head that is not a request yet.
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.reset_completed_head();
        if self.connection.idle_since().is_none() {
            return Ok(());
        }
        self.head.began.get_or_insert_with(Instant::now);
        self.head.bytes += bytes;
        let wanted = self.head.bytes.saturating_sub(FREE_HEAD);
        let held = self.head.memory.as_ref().map_or(0, Permit::units);
        if wanted <= held {
            return Ok(());
        }
        let more = match &mut self.head.memory {
            Some(memory) => memory.grow(wanted - held),
            None => {
                let taken = self.connection.peer().take(Resource::Memory, wanted);
                taken.map(|memory| self.head.memory = Some(memory))
            }
        };
        more.map_err(|_| io::Error::other("no memory is left for the head of a request"))
    }

    /// Resets the head once it has become a request.
    fn reset_completed_head(&mut self) {
        let requests = self.connection.requests();
        if self.head.after != requests {
            (self.head.after, self.head.began, self.head.bytes) = (requests, None, 0);
        }
    }

    /// Completes when the peer has sent nothing until its deadline.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.reset_completed_head();
        loop {
            // The timer is set only where it would fire too late: each request moves the deadline, and few timers fire.
            match (self.connection.idle_since(), self.head.began) {
                // A request is in flight. The library may not poll again when it ends, so the timer keeps running.
                (None, _) if self.timer.is_elapsed() => {
                    self.timer.as_mut().reset(Instant::now() + self.limits.idle);
                }
                (None, _) => {
                    let deadline = self.connection.time() + self.limits.idle;
                    if self.timer.deadline() > deadline {
                        self.timer.as_mut().reset(deadline);
                    }
                }
                (Some(idle_since), began) => {
                    let idle_until = idle_since + self.limits.idle;
                    let deadline = began.map_or(idle_until, |began| began + self.limits.head);
                    if deadline <= Instant::now() {
                        return Poll::Ready(());
                    }
                    if self.timer.deadline() > deadline || self.timer.is_elapsed() {
                        self.timer.as_mut().reset(deadline);
                    }
                }
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    /// Whether the peer may be sending bytes that no request will read.
    fn is_peer_sending(&self) -> bool {
        let is_within_head = self.head.bytes > 0 && self.head.after == self.connection.requests();
        !self.has_peer_ended && (self.connection.has_unread_body() || is_within_head)
    }

    /// Reads and drops bytes until the peer ends, or the time is over.
    fn poll_drain(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let mut scratch = [0; 4096];
        if self.timer.deadline() != until {
            self.timer.as_mut().reset(until);
        }
        loop {
            if self.timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(self.stream.get_mut()).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.connection.poll_readable(cx));
        self.stream.set_limit(READ as u64);
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => match buffer.filled().len() - before {
                0 => {
                    self.has_peer_ended = true;
                    Poll::Ready(Ok(()))
                }
                bytes => Poll::Ready(self.count(bytes)),
            },
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // A timeout looks to the HTTP library as if the peer had closed the connection.
            Poll::Pending => self.poll_timeout(cx).map(Ok),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(self.stream.get_mut());
        let size: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if size > COPIED {
            return stream.poll_write_vectored(cx, buffers);
        }
        let mut copied = [0; COPIED];
        let mut rest = copied.as_mut_slice();
        for buffer in buffers {
            let (target, behind) = rest.split_at_mut(buffer.len());
            target.copy_from_slice(buffer);
            rest = behind;
        }
        stream.poll_write(cx, &copied[..size])
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.closing {
                Closing::Open => {
                    ready!(Pin::new(self.stream.get_mut()).poll_shutdown(cx))?;
                    if !self.is_peer_sending() {
                        return Poll::Ready(Ok(()));
                    }
                    self.closing = Closing::Until(Instant::now() + LINGER);
                }
                Closing::Until(until) => return self.poll_drain(cx, until).map(Ok),
            }
        }
    }
}
