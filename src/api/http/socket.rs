//! The socket of an HTTP connection, with the limits that only the socket can keep: how long a connection may be idle,
//! how long the head of a request may take, how much memory a head takes up before it is a request, and a staged close,
//! so that an answer reaches a peer that is still sending (RFC 9112, section 9.6).

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

/// The most bytes that are read at once. Just below what the HTTP library reads at first: a read that fills its buffer
/// makes it double the buffer, and each idle connection would keep one of 64 KiB.
const READ: usize = (8 << 10) - 1;

/// A head up to this size is part of what every connection costs; beyond it, it counts as memory of its peer.
const FREE_HEAD: usize = 8 << 10;

/// Up to so many bytes are copied together to be sent: that costs less than to tell the system of every piece.
const TOGETHER: usize = 1 << 10;

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
    /// How many requests had come when it began.
    after: u64,
    /// When its first byte came.
    began: Option<Instant>,
    bytes: usize,
    /// What the connection's buffer holds beyond what is free. Kept to the end, as the buffer is.
    memory: Option<Permit>,
}

/// How far the close has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    Open,
    /// Nothing more is sent; what still arrives is dropped until then.
    Until(Instant),
}

impl Socket {
    /// The socket of a connection that was accepted just now.
    pub(in crate::api) fn new(stream: TcpStream, connection: Arc<Connection>, limits: Limits) -> Socket {
        let opened = Instant::now();
        Socket {
            stream: stream.take(READ as u64),
            connection,
            limits,
            // Its time begins with the connection.
            head: Head { after: 0, began: Some(opened), bytes: 0, memory: None },
            timer: Box::pin(sleep_until(opened + limits.head)),
            closing: Closing::Open,
            has_peer_ended: false,
        }
    }

    /// Counts bytes that belong to no request yet.
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.forget_last_head();
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

    /// Begins anew where a request has come since: its head is the request's.
    fn forget_last_head(&mut self) {
        let requests = self.connection.requests();
        if self.head.after != requests {
            (self.head.after, self.head.began, self.head.bytes) = (requests, None, 0);
        }
    }

    /// Completes when a peer that sends nothing has had its time.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.forget_last_head();
        loop {
            // Set only where it would ring too late: each request moves the deadline, and few timers ever ring.
            match (self.connection.idle_since(), self.head.began) {
                // A request is under way. The library need not ask again when it ends, so the timer goes on.
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

    /// Whether the peer may be sending what nothing will read.
    fn is_peer_sending(&self) -> bool {
        let is_within_head = self.head.bytes > 0 && self.head.after == self.connection.requests();
        !self.has_peer_ended && (self.connection.has_unread_body() || is_within_head)
    }

    /// Reads and drops what arrives until the peer ends, or the time is over.
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
            // To the HTTP library it looks as if the peer had hung up.
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
        if size > TOGETHER {
            return stream.poll_write_vectored(cx, buffers);
        }
        let mut together = [0; TOGETHER];
        let mut rest = together.as_mut_slice();
        for buffer in buffers {
            let (place, behind) = rest.split_at_mut(buffer.len());
            place.copy_from_slice(buffer);
            rest = behind;
        }
        stream.poll_write(cx, &together[..size])
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
