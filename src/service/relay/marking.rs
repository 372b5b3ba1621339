//! Marks events published in the store: gathers what the bus has confirmed and hands it over in one statement for many.
//! An event that cannot be marked now is tried again until the store takes it; no caller waits for that.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::outstanding::Key;
use super::publisher::Publisher;
use crate::telemetry::limited;

/// How long confirmed events are gathered before they are marked.
const GATHER: Duration = Duration::from_millis(30);

/// The most events in one statement.
const CHUNK: usize = 2048;

/// The pause after the first failure; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Marks what arrives, until all is published; then marks the rest, and tries each of it once.
pub(super) async fn run(
    publisher: &Publisher,
    mut confirmed: mpsc::UnboundedReceiver<Vec<Key>>,
    published: CancellationToken,
) {
    let (mut keys, mut pause) = (Vec::new(), FIRST_PAUSE);
    loop {
        if keys.is_empty() {
            tokio::select! {
                biased;
                Some(batch) = confirmed.recv() => keys = batch,
                () = published.cancelled() => break,
            }
            rest(GATHER, &published).await;
        }
        gather(&mut confirmed, &mut keys);
        if mark(publisher, &mut keys).await {
            pause = FIRST_PAUSE;
        } else if published.is_cancelled() {
            break;
        } else {
            rest(pause, &published).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    gather(&mut confirmed, &mut keys);
    mark(publisher, &mut keys).await;
}

/// Sleeps, and no longer once all is published.
async fn rest(pause: Duration, published: &CancellationToken) {
    tokio::select! {
        () = sleep(pause) => {}
        () = published.cancelled() => {}
    }
}

/// Adds what else has been confirmed.
fn gather(confirmed: &mut mpsc::UnboundedReceiver<Vec<Key>>, keys: &mut Vec<Key>) {
    while let Ok(batch) = confirmed.try_recv() {
        keys.extend(batch);
    }
}

/// Marks the events, a chunk at a time; answers whether all of them are. What is not stays in `keys`.
async fn mark(publisher: &Publisher, keys: &mut Vec<Key>) -> bool {
    while !keys.is_empty() {
        let chunk = &keys[keys.len().saturating_sub(CHUNK)..];
        if let Err(error) = publisher.store.published(chunk).await {
            limited!(warn, "published"; %error, "events cannot be marked published; it is tried again");
            return false;
        }
        publisher.outstanding.marked(chunk);
        keys.truncate(keys.len().saturating_sub(CHUNK));
    }
    true
}
