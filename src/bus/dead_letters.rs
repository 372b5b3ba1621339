//! The dead-letter topic of the in-process bus: a file of JSON lines, one per record that no worker could deal
//! with. Append-only and synced, so a record is either still on its way or safely here.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::{Delivery, Record};
use crate::order::Event;

/// The file, and how many records it holds.
pub(in crate::bus) struct DeadLetters {
    path: PathBuf,
    // std Mutex: held for one small write and its sync; dead letters are rare
    tail: Mutex<Tail>,
    count: AtomicU64,
}

/// Where the next record goes.
struct Tail {
    /// Open from the first append on, and no longer after one that failed.
    file: Option<File>,
    /// The length of the whole lines. What lies behind them was torn by a crash or a full disk: its record was
    /// not settled and comes again.
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

impl DeadLetters {
    /// Counts the records of an existing file; the file is made when there is a first one.
    pub(in crate::bus) fn open(path: &Path) -> io::Result<DeadLetters> {
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
        Ok(DeadLetters { path: path.to_owned(), tail, count: AtomicU64::new(count) })
    }

    pub(in crate::bus) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Appends a record and waits until it is on disk.
    pub(in crate::bus) fn append(&self, delivery: &Delivery, reason: &str) -> io::Result<()> {
        let record = as_bytes(delivery)?;
        let mut line = serde_json::to_vec(&Line {
            topic: &delivery.source.topic,
            partition: delivery.source.partition,
            offset: delivery.source.offset,
            timestamp: delivery.source.timestamp,
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
                // Shorter than it was: somebody took it away, and the records in it with them.
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

/// The record's bytes; an event that travelled in memory gets the ones it would have had on a wire.
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
