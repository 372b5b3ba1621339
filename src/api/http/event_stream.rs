//! The text of a stream of server-sent events: its beginning, its events, the gaps where history is no longer kept, and
//! the heartbeats between them. It formats only; `service` reads the history. Each event has its offset as its id, and
//! so has the beginning where its offset is known, so that a client can continue after it. At most 15 seconds pass
//! without a byte, so that no proxy closes the stream as idle. The stream holds its permit until it is dropped, and
//! ends when the process begins to stop.

use std::time::Duration;

use futures_util::stream::{once, unfold};
use futures_util::{Stream, StreamExt};
use hyper::body::Bytes;
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use uuid::Uuid;

use super::history_event_body::history_event;
use crate::api::problem_body::to_json;
use crate::order::{HistoryEvent, HistoryOffset};
use crate::service::quota::Permit;
use crate::service::{Following, StreamItem};

/// The milliseconds that a client waits before it reconnects. It is a range, so that the clients of a process that
/// ended do not all reconnect at once.
const RETRY: std::ops::RangeInclusive<u64> = 1_000..=3_000;

/// The time without an event after which a comment is sent, so that no proxy closes the stream as idle.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A comment, which readers of events ignore.
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// The stream: first a comment, which shows the client that the stream is open, with the offset where it begins, so
/// that the client can reconnect before its first event; and then events and heartbeats.
pub(super) fn events(
    Following { after, lost_from, pages }: Following,
    draining: CancellationToken,
    permit: Permit,
) -> impl Stream<Item = Bytes> {
    let rest = unfold((pages, draining, permit), |(mut pages, draining, permit)| async move {
        let next = tokio::select! {
            biased;
            () = draining.cancelled() => None,
            page = pages.next() => page.map(|item| match item {
                StreamItem::Events(events) => text(&events),
                StreamItem::Lost { after, upto } => (gap(after, upto) + "\n").into(),
            }),
            () = sleep(HEARTBEAT) => Some(COMMENT),
        };
        next.map(|bytes| (bytes, (pages, draining, permit)))
    });
    let begin = beginning(after, lost_from);
    once(async { begin }).chain(rest)
}

/// The first block of a stream, and the event `gap` where history events were lost.
fn beginning(after: Option<HistoryOffset>, lost_from: Option<HistoryOffset>) -> Bytes {
    // A fresh id is random at its end.
    let (_, jitter) = Uuid::now_v7().as_u64_pair();
    let retry = RETRY.start() + jitter % (RETRY.end() - RETRY.start() + 1);
    let mut text = format!(":\nretry: {retry}\n");
    match (after, lost_from) {
        (Some(upto), Some(after)) => {
            text += "\n";
            text += &gap(after, upto);
        }
        (Some(offset), None) => text += &format!("id: {offset}\n"),
        (None, _) => {}
    }
    (text + "\n").into()
}

/// The event `gap`, without the empty line at its end.
fn gap(after: HistoryOffset, upto: HistoryOffset) -> String {
    let body = to_json(&GapBody { after: after.to_string(), upto: upto.to_string() });
    format!("id: {upto}\nevent: gap\ndata: {}\n", String::from_utf8_lossy(&body))
}

/// The `data` of an event `gap`, for a client that was behind when history events were dropped.
#[derive(Serialize, ToSchema)]
#[schema(as = Gap)]
pub(super) struct GapBody {
    /// The offset that the client had reached.
    after: String,
    /// History events after that offset, up to this one, are no longer kept. Where this offset is the smaller one, the
    /// history ends here, as after the restore of a backup, and may have events that the client does not know. The
    /// stream continues after it.
    upto: String,
}

/// The text of events.
fn text(history: &[HistoryEvent]) -> Bytes {
    let mut text = Vec::with_capacity(history.len() * 320);
    for one in history {
        text.extend_from_slice(format!("id: {}\nevent: order\ndata: ", one.offset).as_bytes());
        text.extend_from_slice(&history_event(one));
        text.extend_from_slice(b"\n\n");
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::stream::{iter, pending};
    use tokio::time::Instant;

    use super::*;
    use crate::order::{Amount, Cause, OrderId, Status, UserId};
    use crate::service::quota::{Limit, Quotas, Resource};

    fn a_history_event() -> HistoryEvent {
        HistoryEvent {
            offset: HistoryOffset(7, 9),
            order_id: OrderId::parse("0196f1c8-7b1e-7000-8000-00000000dead").unwrap(),
            user_id: UserId::parse("7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33").unwrap(),
            version: 2,
            at: "2026-01-31T12:00:00.5Z".parse().unwrap(),
            cause: Cause::Worker,
            status: Status::Failed,
            amount: Amount::parse("1.50"),
            reason: Some("two\nlines".to_owned()),
        }
    }

    fn permit() -> Permit {
        let quotas = Quotas::new(|_| Limit { total: 1, per_peer: 1 });
        let peer = quotas.peer([127, 0, 0, 1].into(), false);
        peer.take(Resource::Streams, 1).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_begins_at_once_and_sends_heartbeats_without_events() {
        let following = |after| Following {
            after,
            lost_from: None,
            pages: Box::pin(iter([StreamItem::Events(vec![a_history_event()])]).chain(pending())),
        };
        let (draining, began) = (CancellationToken::new(), Instant::now());
        let mut events = pin!(events(following(None), draining.clone(), permit()));
        let retry = |bytes: Option<Bytes>| {
            let text = String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            let (retry, rest) = text.strip_prefix(":\nretry: ").unwrap().split_once('\n').unwrap();
            assert!(RETRY.contains(&retry.parse().unwrap()), "{text}");
            rest.to_owned()
        };
        assert_eq!(retry(events.next().await), "\n");
        let event = r#"id: 7-9
event: order
data: {"order_id":"0196f1c8-7b1e-7000-8000-00000000dead","user_id":"7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33","version":2,"status":"failed","by":"worker","at":"2026-01-31T12:00:00.5Z","amount":1.50,"reason":"two\nlines"}

"#;
        assert_eq!(events.next().await.as_deref(), Some(event.as_bytes()));
        assert_eq!(began.elapsed(), Duration::ZERO);
        for beat in 1..=3 {
            assert_eq!(events.next().await, Some(COMMENT));
            assert_eq!(began.elapsed(), beat * HEARTBEAT);
        }
        let mut begun = pin!(super::events(following(Some(HistoryOffset(7, 0))), draining.clone(), permit()));
        assert_eq!(retry(begun.next().await), "id: 7-0\n\n");
        let lost = beginning(Some(HistoryOffset(7, 0)), Some(HistoryOffset(3, 1)));
        let gap = "\nid: 7-0\nevent: gap\ndata: {\"after\":\"3-1\",\"upto\":\"7-0\"}\n\n";
        assert_eq!(retry(Some(lost)), gap);
        draining.cancel();
        assert_eq!(events.next().await, None);
        assert_eq!(began.elapsed(), 3 * HEARTBEAT);
    }
}
