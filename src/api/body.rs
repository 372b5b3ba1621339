//! Reads the body of a request, of either protocol. Memory is taken for the bytes that have arrived, and not for the
//! announced length: a client that announces a body and does not send it holds nothing. There is a limit on the whole
//! time and on each pause.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

use super::blocking::{self, LONG_TEXT};
use super::caller::Caller;
use super::options::Options;
use super::problem::{BODY_TIMEOUT, BODY_TOO_LARGE, Problem};

use crate::order::Invalid;
use crate::service::quota::Permit;

/// A body that has arrived, and its memory.
#[derive(Debug)]
pub(super) struct ReceivedBody {
    pub(super) bytes: Bytes,
    pub(super) memory: Permit,
}

/// The bytes that a protocol puts around the content of a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Framing {
    /// Their number.
    pub(super) size: usize,
    /// Checks the bytes that have arrived so far. Returns the length of the content, once they contain it.
    pub(super) content: fn(&[u8]) -> Result<Option<usize>, Problem>,
}

/// The body has nothing around its content.
pub(super) const PLAIN: Framing = Framing { size: 0, content: |_| Ok(None) };

/// Reads a body within the limits of size, time and memory.
///
/// # Errors
/// `body_too_large`, `body_timeout` and `overloaded`; [`Invalid`] where the connection breaks; those of the framing.
pub(super) async fn read<B>(
    mut body: B,
    options: &Options,
    caller: &Caller,
    framing: Framing,
) -> Result<ReceivedBody, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    // The announced length is checked first: a body over the limit is not read at all.
    if body.size_hint().lower() > options.body_limit.saturating_add(framing.size) as u64 {
        return Err(too_large(options));
    }
    let until = Instant::now() + options.body_timeout;
    let Some(first) = chunk(&mut body, until, options).await? else {
        return Ok(ReceivedBody { bytes: Bytes::new(), memory: caller.take(0)? });
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
        false => chunk(&mut body, until, options).await?,
    };
    if next.is_none() {
        return Ok(ReceivedBody { bytes: first, memory });
    }
    // Each small chunk may keep a whole buffer of the connection alive, so the chunks are copied.
    let mut bytes = Vec::from(first);
    while let Some(more) = next {
        if bytes.len() + more.len() > limit {
            return Err(too_large(options));
        }
        reserve(&mut bytes, more.len(), limit, &mut memory)?;
        bytes.extend_from_slice(&more);
        check(&bytes)?;
        next = chunk(&mut body, until, options).await?;
    }
    Ok(ReceivedBody { bytes: bytes.into(), memory })
}

/// Makes room for `more` bytes, and takes the memory for them first.
fn reserve(bytes: &mut Vec<u8>, more: usize, limit: usize, memory: &mut Permit) -> Result<(), Problem> {
    let needed = bytes.len() + more;
    if needed > bytes.capacity() {
        let capacity = needed.max((2 * bytes.capacity()).min(limit));
        memory.grow(capacity.saturating_sub(memory.units()))?;
        bytes.reserve_exact(capacity - bytes.len());
    }
    Ok(())
}

/// The next chunk of a body that must be complete by `until`; `None` at its end.
async fn chunk<B>(body: &mut B, until: Instant, options: &Options) -> Result<Option<Bytes>, Problem>
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
                // Trailers and empty frames are skipped.
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

impl ReceivedBody {
    /// Parses the text with `parse`. A long text is parsed on a blocking thread, and its memory counts twice meanwhile.
    /// The bytes are dropped; their permit is returned with the value that was made of them.
    ///
    /// # Errors
    /// [`Invalid`] where the bytes are not UTF-8, `overloaded` where there is not enough memory, and those of `parse`.
    pub(super) async fn read<T: Send + 'static>(
        self,
        parse: impl FnOnce(&str) -> Result<T, Problem> + Send + 'static,
    ) -> Result<(T, Permit), Problem> {
        let ReceivedBody { bytes, mut memory } = self;
        let size = bytes.len();
        let read = move || parse(utf8(&bytes)?);
        if size <= LONG_TEXT {
            let value = read()?;
            memory.shrink_to(size);
            return Ok((value, memory));
        }
        memory.grow(size)?;
        blocking::run(move || {
            let value = read()?;
            memory.shrink_to(size);
            Ok((value, memory))
        })
        .await
    }
}

/// The text of a body.
fn utf8(body: &[u8]) -> Result<&str, Invalid> {
    std::str::from_utf8(body)
        .map_err(|error| Invalid::new("body", format!("not UTF-8 from byte {} on", error.valid_up_to())))
}
