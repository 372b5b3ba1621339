//! The log: where it goes, what it holds and what a line looks like. It goes to standard error, because
//! standard output belongs to the commands that print something.
//!
//! Logging must never block a caller and never end the process: lines go through a bounded queue to a thread of their
//! own. `main` sets it up once, before anything logs. This room imports no other room, so that each may log.

mod limit;
mod log_once;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) use self::limit::limited;
pub use self::limit::{LeftOut, LogLimit};
pub use self::log_once::LogOnce;
use self::queue::{Queue, QueueWriter};

/// The lines of this process. A process has one log, as it has one standard error.
static LINES: Queue = Queue::new();

/// How long the end of the process waits for the reader of the log.
const FLUSH: Duration = Duration::from_secs(1);

/// Why the log could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error(
        "log_level = {level:?}: {reason}; write off, error, warn, info, debug or trace, or a filter such as \
         \"info,orderstream::store=debug\""
    )]
    BadFilter {
        /// The filter.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a log in this process already.
    #[error("the log has been set up before; do it once")]
    AlreadySet,
    /// The thread that writes the log could not be started.
    #[error("the log cannot be written: {0}; allow this process more threads and descriptors")]
    NoThread(String),
}

/// Sets up the log of the process. `level` is a level or a filter of tracing directives; `json` writes one
/// JSON object per line, otherwise text, coloured if standard error is a terminal. Panics go to the log, too.
///
/// # Errors
/// [`Error::BadFilter`] where `level` cannot be read, [`Error::AlreadySet`] at the second call, [`Error::NoThread`]
/// where the system refuses a thread.
pub fn init(level: &str, json: bool) -> Result<(), Error> {
    let ansi = io::stderr().is_terminal();
    let subscriber = subscriber(filter(level)?, json, ansi, QueueWriter(&LINES));
    LINES.run().map_err(|error| Error::NoThread(error.to_string()))?;
    subscriber.try_init().map_err(|_| Error::AlreadySet)?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Waits until the log is written, for a second at most. Call it before the process ends.
pub fn flush() {
    LINES.flush(FLUSH);
}

/// Waits until the thread that writes the log has ended by itself; for ever where there is none.
pub async fn failed() {
    LINES.ended().await;
}

/// Writes a line for people to standard error, behind the log where there is one. Does nothing where standard error is
/// closed.
pub fn say(line: &str) {
    let line = format!("{line}\n");
    if LINES.is_running() {
        LINES.push(line.as_bytes());
        flush();
    } else {
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// Logs a panic. Rust's default hook writes to standard error directly, and so waits for its reader.
fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let text = info.payload_as_str().unwrap_or("a value that is not a text");
    let place = info.location().map(ToString::to_string);
    // Empty unless RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(thread, place, backtrace, "a thread panicked: {text}");
    // The process ends with its main thread, and with the process the queue.
    if thread == "main" {
        flush();
    }
}

/// Reads a filter. A word that is not a level is refused, though tracing would take it as the name of a target: a
/// misspelt level would silence the program.
fn filter(level: &str) -> Result<EnvFilter, Error> {
    let bad = |reason: String| Error::BadFilter { level: level.to_owned(), reason };
    let mut directives = level.split(',').map(str::trim);
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    if level.trim().is_empty() {
        return Err(bad("nothing is named".to_owned()));
    }
    if let Some(word) = directives.find(|word| !word.contains(['=', '[']) && !is_level(word)) {
        return Err(bad(format!("{word:?} is not a level")));
    }
    EnvFilter::try_new(level).map_err(|error| bad(error.to_string()))
}

fn subscriber<W>(filter: EnvFilter, json: bool, ansi: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // The library would write its own errors to standard error by itself, and panic where that is closed.
    let lines =
        fmt::Subscriber::builder().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    if json {
        Box::new(lines.json().flatten_event(true).finish())
    } else {
        Box::new(lines.with_ansi(ansi).finish())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The log with these settings after two lines.
    fn logged(level: &str, json: bool) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(filter(level).unwrap(), json, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(orders = 3, "committed");
            tracing::debug!("looked");
        });
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_a_line_without_colours_where_there_is_no_terminal() {
        let text = logged("info", false);
        assert!(text.contains("INFO") && text.contains("committed orders=3"), "{text}");
        assert!(!text.contains('\x1b') && !text.contains("looked"), "{text}");
    }

    #[test]
    fn json_is_one_object_per_line_with_the_fields_at_its_top() {
        let text = logged("warn,orderstream=debug", true);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "committed");
        assert_eq!(lines[0]["orders"], 3);
        assert_eq!(lines[0]["level"], "INFO");
    }

    #[test]
    fn the_error_of_a_bad_filter_names_its_key_and_the_fix() {
        for level in ["", "inof", "info,debgu", "orderstream=loud"] {
            let text = filter(level).unwrap_err().to_string();
            assert!(text.starts_with("log_level = "), "{text}");
            assert!(text.contains("write off, error, warn, info, debug or trace"), "{text}");
        }
        for level in ["off", "INFO", "info,orderstream::store=debug", "warn,hyper[conn]=trace"] {
            assert_eq!(filter(level).err(), None, "{level}");
        }
    }
}
