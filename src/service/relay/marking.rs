//! Marks events published in the store: coalesces the keys that the bus has confirmed and marks many in one statement.
//! A key that cannot be marked now is retried until the store takes it; callers do not wait for that. An event must not
//! be marked before the bus has confirmed it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::outstanding::Key;
use super::publisher::Publisher;
use crate::telemetry::limited;

/// How long confirmed events are coalesced before they are marked.
const COALESCE_TIME: Duration = Duration::from_millis(30);

/// The most events in one statement.
const CHUNK: usize = 2048;

/// The pause after the first failure; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Marks the events that arrive, until `published` says that all are; then marks the rest, each tried once.
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
            rest(COALESCE_TIME, &published).await;
        }
        coalesce(&mut confirmed, &mut keys);
        if mark(publisher, &mut keys).await {
            pause = FIRST_PAUSE;
        } else if published.is_cancelled() {
            break;
        } else {
            rest(pause, &published).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    coalesce(&mut confirmed, &mut keys);
    mark(publisher, &mut keys).await;
}

/// Sleeps, and stops once all events are published.
async fn rest(pause: Duration, published: &CancellationToken) {
    tokio::select! {
        () = sleep(pause) => {}
        () = published.cancelled() => {}
    }
}

/// Adds the keys that have been confirmed meanwhile.
fn coalesce(confirmed: &mut mpsc::UnboundedReceiver<Vec<Key>>, keys: &mut Vec<Key>) {
    while let Ok(batch) = confirmed.try_recv() {
        keys.extend(batch);
    }
}

/// Marks the events, a chunk at a time; answers whether all are marked. The others stay in `keys`.
async fn mark(publisher: &Publisher, keys: &mut Vec<Key>) -> bool {
    while !keys.is_empty() {
        let chunk = &keys[keys.len().saturating_sub(CHUNK)..];
        if let Err(error) = publisher.store.published(chunk).await {
            limited!(warn, "published"; %error, "events cannot be marked published; the relay tries again");
            return false;
        }
        publisher.outstanding.marked(chunk);
        keys.truncate(keys.len().saturating_sub(CHUNK));
    }
    true
}
