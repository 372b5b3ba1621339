//! The queue between the program and standard error. A line is copied into memory and written by a thread of its own,
//! so a caller never waits for the reader of the log: where that reader is too slow, gone or stopped, lines are dropped
//! and counted. The queue is bounded in bytes, because a bound in lines says nothing about memory.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing_subscriber::fmt::MakeWriter;

use super::limit;

/// How many bytes of lines wait at most, besides as many that are being written.
const CAPACITY: usize = 1 << 20;

/// How often the thread reports the lines that were left out, and the time between two reports of dropped lines.
const PERIOD: Duration = Duration::from_secs(1);

/// How long to wait for a standard error that is full at the moment, where it was set not to block.
const PAUSE: Duration = Duration::from_millis(10);

thread_local! {
    /// Whether this is the thread that writes. Its own reports are added to a full queue, too, because it empties the
    /// queue.
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// Lines on their way to standard error.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Notified when the thread has ended, which only a panic causes.
    ended: Notify,
}

struct State {
    /// The lines that wait.
    lines: Vec<u8>,
    /// How many lines were dropped since the last report.
    dropped: u64,
    /// Whether the thread has taken lines and not written them yet.
    is_writing: bool,
    /// Whether there is a thread.
    is_running: bool,
}

impl Queue {
    /// An empty queue, whose lines are written after [`Queue::run`].
    pub(super) const fn new() -> Queue {
        let state = State { lines: Vec::new(), dropped: 0, is_writing: false, is_running: false };
        Queue { state: Mutex::new(state), changed: Condvar::new(), ended: Notify::const_new() }
    }

    // Held for a copy within memory, never while anything is written.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread that writes to standard error. A second call changes nothing.
    pub(super) fn run(&'static self) -> io::Result<()> {
        // A descriptor of its own: a write that hangs then holds no lock that others need.
        let output = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        if std::mem::replace(&mut self.state().is_running, true) {
            return Ok(());
        }
        let thread = thread::Builder::new().name("log".to_owned());
        let writing = move || {
            let _end = End(self);
            self.write_to(output);
        };
        thread.spawn(writing).inspect_err(|_| self.state().is_running = false)?;
        Ok(())
    }

    /// Whether there is a thread to write lines.
    pub(super) fn is_running(&self) -> bool {
        self.state().is_running
    }

    /// Waits until the thread has ended.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Takes a line, or counts it as dropped.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.lines.len() + line.len() <= CAPACITY || IS_WRITER.get() {
            state.lines.extend_from_slice(line);
        } else {
            state.dropped += 1;
        }
        let is_idle = !state.is_writing;
        drop(state);
        if is_idle {
            self.changed.notify_all();
        }
    }

    /// Waits until all lines are written, but not longer than `limit`: a reader that has stopped must not keep the
    /// process from ending.
    pub(super) fn flush(&self, limit: Duration) {
        let is_busy = |state: &mut State| state.is_running && (state.is_writing || !state.lines.is_empty());
        // Poisoned or late: the process ends anyway.
        let _ = self.changed.wait_timeout_while(self.state(), limit, is_busy);
    }

    /// The thread's loop. Never returns: lines may arrive until the process ends.
    fn write_to(&self, mut output: File) {
        IS_WRITER.set(true);
        let (mut lines, mut reported) = (Vec::new(), None::<Instant>);
        loop {
            self.take(&mut lines);
            write(&mut output, &lines);
            lines.clear();
            let dropped = self.written(reported.is_none_or(|at| at.elapsed() >= PERIOD));
            if dropped > 0 {
                reported = Some(Instant::now());
                tracing::warn!(
                    count = dropped,
                    "{dropped} log lines were dropped, because they were not read in time"
                );
            }
            limit::report();
        }
    }

    /// Swaps the waiting lines for an empty buffer, as soon as there are some, or after a period without.
    fn take(&self, lines: &mut Vec<u8>) {
        let is_idle = |state: &mut State| state.lines.is_empty();
        let waited = self.changed.wait_timeout_while(self.state(), PERIOD, is_idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.lines, lines);
        state.is_writing = !lines.is_empty();
    }

    /// Records that the taken lines are written. Answers how many lines were dropped, where it is time to report them.
    fn written(&self, is_time: bool) -> u64 {
        let mut state = self.state();
        state.is_writing = false;
        let dropped = if is_time { std::mem::take(&mut state.dropped) } else { 0 };
        drop(state);
        self.changed.notify_all();
        dropped
    }
}

/// Records that the thread has ended: later lines go to standard error directly.
struct End<'a>(&'a Queue);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.is_running, state.is_writing) = (false, false);
        drop(state);
        self.0.changed.notify_all();
        self.0.ended.notify_one();
    }
}

/// Writes all of it, unless standard error is closed: that is not a fault of the program, and the lines are lost.
fn write(output: &mut impl Write, mut lines: &[u8]) {
    while !lines.is_empty() {
        match output.write(lines) {
            Ok(0) => return,
            Ok(count) => lines = &lines[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => return,
        }
    }
}

/// Puts the lines of the log into a queue.
#[derive(Clone, Copy)]
pub(super) struct QueueWriter(pub(super) &'static Queue);

impl Write for QueueWriter {
    /// The log hands over a whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for QueueWriter {
    type Writer = QueueWriter;

    fn make_writer(&'a self) -> QueueWriter {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_panics_is_reported_and_does_not_block_callers() {
        static LINES: Queue = Queue::new();
        LINES.state().is_running = true;
        LINES.push(b"a line that is never written\n");
        let thread = thread::spawn(|| {
            let _end = End(&LINES);
            panic!("by a test");
        });
        LINES.ended().await;
        assert!(thread.join().is_err() && !LINES.is_running());
        LINES.flush(Duration::from_mins(1));
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_never_waits() {
        let queue = Queue::new();
        let line = [b'x'; 1000];
        for _ in 0..2000 {
            queue.push(&line);
        }
        let kept = CAPACITY / line.len();
        assert_eq!(queue.state().lines.len(), kept * line.len());
        let mut lines = Vec::new();
        queue.take(&mut lines);
        assert_eq!(lines.len(), kept * line.len());
        assert_eq!(queue.written(false), 0, "it is not time yet");
        assert_eq!(queue.written(true), 2000 - kept as u64);
        assert_eq!(queue.written(true), 0, "a line is reported once");
    }

    #[test]
    fn a_line_of_the_writing_thread_finds_room_in_a_full_queue() {
        let queue = Queue::new();
        queue.push(&[b'x'; CAPACITY]);
        IS_WRITER.set(true);
        queue.push(b"lines were dropped\n");
        IS_WRITER.set(false);
        assert!(queue.state().lines.ends_with(b"dropped\n"));
        assert_eq!(queue.written(true), 0);
    }

    #[test]
    fn a_write_continues_after_an_interruption_and_ends_at_a_closed_pipe() {
        struct Pipe(Vec<io::Result<usize>>, Vec<u8>);
        impl Write for Pipe {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let count = self.0.pop().unwrap_or(Ok(bytes.len()))?;
                self.1.extend_from_slice(&bytes[..count]);
                Ok(count)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut pipe = Pipe(
            vec![Ok(2), Err(ErrorKind::WouldBlock.into()), Err(ErrorKind::Interrupted.into())],
            Vec::new(),
        );
        write(&mut pipe, b"a line\n");
        assert_eq!(pipe.1, b"a line\n");
        let mut pipe = Pipe(vec![Err(ErrorKind::BrokenPipe.into())], Vec::new());
        write(&mut pipe, b"a line\n");
        assert!(pipe.1.is_empty());
    }
}
