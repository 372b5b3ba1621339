//! Standard output of the commands. Where the reader closes the pipe, as `head` does, the command ends without a
//! message, with 0 or the code of its result. Any other failure to write is an error that says what to do. Each text is
//! flushed at once. A command whose result has an exit code of its own must use `quiet`, or a closed pipe would hide
//! that code. A server must never wait for the reader of its output, so it prints on a thread of its own.

use std::io::{self, ErrorKind, Write};
use std::thread;

use anyhow::Result;
use thiserror::Error;

/// The reader of standard output has closed it.
#[derive(Debug, Error)]
#[error("standard output is closed")]
pub(super) struct Closed;

/// Prints a text as it is.
///
/// # Errors
/// [`Closed`], which [`quiet`] ignores, or the system's error.
pub(super) fn print(text: impl AsRef<[u8]>) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_ref()).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => anyhow::Error::new(Closed),
        _ => {
            anyhow::Error::new(error).context("standard output cannot be written; name another file or pipe")
        }
    })
}

/// Counts a reader's close of standard output as success.
pub(super) fn quiet(printed: Result<()>) -> Result<()> {
    match printed {
        Err(error) if error.is::<Closed>() => Ok(()),
        printed => printed,
    }
}

/// Prints a server's start message on a thread of its own: a server must serve also where no process reads its output.
pub(super) fn announce(text: String) {
    let thread = thread::Builder::new().name("announce".to_owned());
    // The message is not needed to serve, so a failure to print it is ignored.
    let _ = thread.spawn(move || print(text));
}
