//! Standard output of the commands. A reader that closes the pipe, as `head` does, has read enough: the command ends
//! without a message. Its exit code is then 0, or the one that its result has.

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
/// [`Closed`], for [`quiet`] to take, or what else keeps the text from being written.
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

/// Takes a reader that has closed standard output as one who has read enough.
pub(super) fn quiet(printed: Result<()>) -> Result<()> {
    match printed {
        Err(error) if error.is::<Closed>() => Ok(()),
        printed => printed,
    }
}

/// Prints what a server says at its start, on a thread of its own: a server serves also where nothing reads what it
/// prints.
pub(super) fn announce(text: String) {
    let thread = thread::Builder::new().name("announce".to_owned());
    // Without a thread, and without a reader, it goes on all the same.
    let _ = thread.spawn(move || print(text));
}
