//! Reads the body of a request, of either protocol. Memory is taken for what has arrived, and not for what was announced:
//! a client that announces a body and does not send it holds nothing. Time counts as a whole and from piece to piece.

use std::sync::LazyLock;
use std::thread;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::api::Options;
use crate::api::problem::{BODY_TIMEOUT, BODY_TOO_LARGE, Problem};
use crate::api::server::exchange::Caller;
use crate::error::Error;
use crate::order::Invalid;
use crate::service::quota::Permit;

/// Beyond so many bytes reading a text takes long enough to be noticed by others, and is done beside the runtime.
pub(in crate::api) const LONG: usize = 32 << 10;

/// A body that has arrived, and the memory that it takes up.
#[derive(Debug)]
pub(in crate::api) struct Arrived {
    pub(in crate::api) bytes: Bytes,
    pub(in crate::api) memory: Permit,
}

/// What stands around the content of a body.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Framing {
    /// How many bytes it is.
    pub(in crate::api) size: usize,
    /// Looks at what has arrived so far: how long the content is, where that can be told, or what is wrong with it.
    pub(in crate::api) content: fn(&[u8]) -> Result<Option<usize>, Problem>,
}

/// The body is its content.
pub(in crate::api) const PLAIN: Framing = Framing { size: 0, content: |_| Ok(None) };

/// Reads a body within the limits of size, time and memory.
pub(in crate::api) async fn read<B>(
    mut body: B,
    options: &Options,
    caller: &Caller,
    framing: Framing,
) -> Result<Arrived, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    // The length that a client announces is looked at first: a body over the limit is not read at all.
    if body.size_hint().lower() > options.body_limit.saturating_add(framing.size) as u64 {
        return Err(too_large(options));
    }
    let until = Instant::now() + options.body_timeout;
    let Some(first) = piece(&mut body, until, options).await? else {
        return Ok(Arrived { bytes: Bytes::new(), memory: caller.take(0)? });
    };
    let limit = options.body_limit.saturating_add(framing.size);
    let check = |bytes: &[u8]| match (framing.content)(bytes)? {
        Some(length) if length > options.body_limit => Err(too_large(options)),
        _ if bytes.len() > limit => Err(too_large(options)),
        _ => Ok(()),
    };
    check(&first)?;
    let mut memory = caller.take(first.len())?;
    let mut next = match body.is_end_stream() {
        true => None,
        false => piece(&mut body, until, options).await?,
    };
    if next.is_none() {
        return Ok(Arrived { bytes: first, memory });
    }
    // Copied: each small piece may keep a whole buffer of the connection alive.
    let mut bytes = Vec::from(first);
    while let Some(more) = next {
        if bytes.len() + more.len() > limit {
            return Err(too_large(options));
        }
        reserve(&mut bytes, more.len(), limit, &mut memory)?;
        bytes.extend_from_slice(&more);
        check(&bytes)?;
        next = piece(&mut body, until, options).await?;
    }
    Ok(Arrived { bytes: bytes.into(), memory })
}

/// Makes room for so many more bytes, and takes the memory for it first.
fn reserve(bytes: &mut Vec<u8>, more: usize, limit: usize, memory: &mut Permit) -> Result<(), Problem> {
    let needed = bytes.len() + more;
    if needed > bytes.capacity() {
        let capacity = needed.max((2 * bytes.capacity()).min(limit));
        memory.grow(capacity.saturating_sub(memory.units()))?;
        bytes.reserve_exact(capacity - bytes.len());
    }
    Ok(())
}

/// The next piece of a body of which all must have come until then, whatever its size; `None` at its end.
async fn piece<B>(body: &mut B, until: Instant, options: &Options) -> Result<Option<Bytes>, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let too_late =
        || too_slow(format!("body: send all of it within {} seconds", options.body_timeout.as_secs_f32()));
    loop {
        let now = Instant::now();
        if now >= until {
            return Err(too_late());
        }
        let pause_until = now + options.body_idle_timeout;
        // One timer for both limits.
        let frame = timeout_at(until.min(pause_until), body.frame()).await.map_err(|_| {
            if until <= pause_until {
                return too_late();
            }
            let pause = options.body_idle_timeout.as_secs_f32();
            too_slow(format!("body: send it without pauses of more than {pause} seconds"))
        })?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(Invalid::new("body", format!("could not be read to its end: {error}")).into());
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                // Trailers say nothing that is asked for.
                _ => {}
            },
        }
    }
}

fn too_large(options: &Options) -> Problem {
    Problem::new(BODY_TOO_LARGE, format!("body: send at most {} bytes", options.body_limit))
}

fn too_slow(detail: String) -> Problem {
    Problem::new(BODY_TIMEOUT, detail)
}

impl Arrived {
    /// Makes something of the text. Where that takes long it is done beside the runtime, and its memory is taken twice
    /// meanwhile. The bytes are let go; their permit is answered, for what was made of them.
    pub(in crate::api) async fn read<T: Send + 'static>(
        self,
        make: impl FnOnce(&str) -> Result<T, Problem> + Send + 'static,
    ) -> Result<(T, Permit), Problem> {
        let Arrived { bytes, mut memory } = self;
        let size = bytes.len();
        let read = move || make(utf8(&bytes)?);
        if size <= LONG {
            let made = read()?;
            memory.shrink_to(size);
            return Ok((made, memory));
        }
        memory.grow(size)?;
        beside(move || {
            let made = read()?;
            memory.shrink_to(size);
            Ok((made, memory))
        })
        .await
    }
}

/// How much of such work is done at a time: as much as there are processors. With a thread for each of it, those of the
/// runtime would be few among many, and everyone would wait, liveness too.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(thread::available_parallelism().map_or(1, usize::from)));

/// Does work that takes long on a thread where others do not wait for it.
pub(in crate::api) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    // Kept until it is done, also where the caller is gone. It is never closed.
    let turn = TURNS.acquire().await.map_err(|_| Error::Unavailable)?;
    let work = move || {
        let _turn = turn;
        work()
    };
    outcome(tokio::task::spawn_blocking(work)).await?
}

/// The outcome of work that is done in a task of its own. Its panic is that of a handler.
pub(in crate::api) async fn outcome<T>(work: JoinHandle<T>) -> Result<T, Error> {
    work.await.or_else(|failed| match failed.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // The runtime is being shut down.
        Err(_) => Err(Error::Unavailable),
    })
}

/// Makes the text of an answer that holds so many bytes of payload: beside the runtime where that takes long.
pub(in crate::api) async fn write(
    payload: usize,
    make: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> Result<Vec<u8>, Problem> {
    match payload > LONG {
        true => beside(|| Ok(make())).await,
        false => Ok(make()),
    }
}

/// The text of a body.
fn utf8(body: &[u8]) -> Result<&str, Invalid> {
    std::str::from_utf8(body)
        .map_err(|error| Invalid::new("body", format!("not UTF-8 from byte {} on", error.valid_up_to())))
}
