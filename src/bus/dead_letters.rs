//! Where the in-process bus keeps its dead letters: the port [`DeadLetterSink`], and the file of a process that does
//! not share its store. The file has JSON lines, one per record that no worker could process. It is append-only and
//! synced: a record is settled only after it is on disk. Processes that share a store keep their letters in that store;
//! `app` decides which sink a bus gets, because a bus does not know any store.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use serde::Serialize;

use super::delivery::{Delivery, Record, Source};
use super::error::PublishError;
use crate::order::Event;

/// Keeps dead letters for ever.
#[async_trait]
pub trait DeadLetterSink: Send + Sync + 'static {
    /// Keeps a letter. Returns when it is durable.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where it may not have been kept; its record is redelivered.
    async fn keep(&self, letter: DeadLetter) -> Result<(), PublishError>;

    /// How many letters there are, those of other processes included.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the sink cannot be read.
    async fn count(&self) -> Result<u64, PublishError>;
}

/// A record that no worker could process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why not.
    pub reason: String,
    /// Where the record came from.
    pub source: Source,
    /// The record; for an event that was only in memory, the bytes that it would have had on a wire.
    pub record: Record,
}

impl DeadLetter {
    /// The letter of a delivery.
    ///
    /// # Errors
    /// Where an event cannot be encoded.
    pub(in crate::bus) fn of(delivery: &Delivery, reason: &str) -> Result<DeadLetter, PublishError> {
        let record = as_bytes(delivery).map_err(unavailable)?;
        Ok(DeadLetter { reason: reason.to_owned(), source: delivery.source.clone(), record })
    }
}

fn unavailable(error: io::Error) -> PublishError {
    PublishError::Unavailable(error.to_string())
}

/// The file, and how many records it holds.
pub(in crate::bus) struct DeadLetterFile {
    path: PathBuf,
    // std Mutex: held for one small write and its sync; dead letters are rare
    tail: Mutex<Tail>,
    count: AtomicU64,
}

/// The end of the file, where the next record is appended.
struct Tail {
    /// Opened by the first append, and closed by an append that failed.
    file: Option<File>,
    /// The length of the whole lines. A crash or a full disk can leave a torn line behind them: its record was not
    /// settled and is redelivered.
    whole: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: jiff::Timestamp,
    reason: &'a str,
    key: Option<Bytes<'a>>,
    headers: Vec<(&'a str, Bytes<'a>)>,
    value: Bytes<'a>,
}

/// Bytes in JSON: as text where they are UTF-8, else `{"hex": "..."}`.
#[derive(Serialize)]
#[serde(untagged)]
enum Bytes<'a> {
    Text(&'a str),
    Raw { hex: String },
}

impl<'a> Bytes<'a> {
    fn of(bytes: &'a [u8]) -> Bytes<'a> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Bytes::Text(text),
            Err(_) => Bytes::Raw { hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() },
        }
    }
}

#[async_trait]
impl DeadLetterSink for DeadLetterFile {
    async fn keep(&self, letter: DeadLetter) -> Result<(), PublishError> {
        self.append(&letter).map_err(unavailable)
    }

    async fn count(&self) -> Result<u64, PublishError> {
        Ok(self.count.load(Ordering::Relaxed))
    }
}

impl DeadLetterFile {
    /// Counts the records of an existing file; the first append creates a file that does not exist.
    pub(in crate::bus) fn open(path: &Path) -> io::Result<DeadLetterFile> {
        let (mut count, mut whole) = (0, 0);
        match File::open(path) {
            Ok(file) => {
                let (mut reader, mut line) = (BufReader::new(file), Vec::new());
                while reader.read_until(b'\n', &mut line)? > 0 {
                    if line.ends_with(b"\n") {
                        count += 1;
                        whole += line.len() as u64;
                    }
                    line.clear();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let tail = Mutex::new(Tail { file: None, whole });
        Ok(DeadLetterFile { path: path.to_owned(), tail, count: AtomicU64::new(count) })
    }

    /// Appends a record and waits until it is on disk.
    fn append(&self, DeadLetter { reason, source, record }: &DeadLetter) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Line {
            topic: &source.topic,
            partition: source.partition,
            offset: source.offset,
            timestamp: source.timestamp,
            reason,
            key: record.key.as_deref().map(Bytes::of),
            headers: record.header_pairs().map(|(name, value)| (name, Bytes::of(value))).collect(),
            value: Bytes::of(&record.value),
        })?;
        line.push(b'\n');
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match tail.file.take() {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                // The file is shorter than it was where an operator moved it away, with the records in it.
                tail.whole = tail.whole.min(file.metadata()?.len());
                file.set_len(tail.whole)?;
                file
            }
        };
        (&file).write_all(&line)?;
        file.sync_data()?;
        tail.whole += line.len() as u64;
        tail.file = Some(file);
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The record's bytes; an event that was only in memory gets the bytes that it would have had on a wire.
fn as_bytes(delivery: &Delivery) -> io::Result<Record> {
    match &delivery.event {
        Ok(event) if delivery.record == Record::default() => encode(event),
        _ => Ok(delivery.record.clone()),
    }
}

fn encode(event: &Event) -> io::Result<Record> {
    Ok(Record {
        key: event.order_id.map(|id| id.to_string().into_bytes()),
        headers: event
            .headers()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into_bytes()))
            .collect(),
        value: event.encode()?,
    })
}
