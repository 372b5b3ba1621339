//! `orders watch` and `orders events`: print changes of orders as they happen. `watch` polls the order, `events` reads
//! the server's event stream and opens it again where it ended. An event is never printed twice and never skipped
//! silently.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::time::sleep;

use super::client::{Call, Method, Server, Stream};
use super::response::{accepted, print, rejected};
use crate::backoff::doubled;
use crate::order::{HistoryOffset, OrderId, Status};
use crate::telemetry;

/// The pause between two reads of a watched order.
const WATCH_PERIOD: Duration = Duration::from_millis(250);

/// The pause before a stream is opened again, unless the server names one: the first, and the longest after failures in
/// a row.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// The members of an order that `watch` reads.
#[derive(Deserialize)]
struct Watched {
    order: WatchedOrder,
}

#[derive(Deserialize)]
struct WatchedOrder {
    status: String,
    updated_at: String,
    version: i64,
    reason: Option<String>,
}

/// Prints a line at each change until the order is finished, or without end. It polls the order, because a server
/// without a history has no event stream.
pub(super) async fn watch(server: &Server, id: OrderId, follow: bool) -> Result<ExitCode> {
    let mut seen = String::new();
    loop {
        let answer = server.call(Call::new(Method::GET, format!("/orders/{id}"))).await?;
        let body = match accepted(&answer) {
            Ok(body) => body,
            Err(code) => return Ok(code),
        };
        let Watched { order } =
            serde_json::from_slice(body).context("the server's answer is not an order")?;
        // Without the time: the worker updates it when it has processed a deletion, which is not a second change.
        let state = format!("{} {}", order.status, order.version);
        if state != seen {
            print(format!("{} {state}", order.updated_at).as_bytes())?;
            seen = state;
        }
        // A status that a newer server may have counts as unfinished.
        let finished = Status::parse(&order.status)
            .is_some_and(|status| !matches!(status, Status::New | Status::Processing));
        if finished && !follow {
            if order.status != Status::Failed.as_str() {
                return Ok(ExitCode::SUCCESS);
            }
            return Ok(rejected(&format!("the order failed: {}", order.reason.unwrap_or_default())));
        }
        sleep(WATCH_PERIOD).await;
    }
}

/// Prints the events of a stream, each after its id, until the server rejects the request for good. A stream that ends
/// is opened again after the last event, so that no event is missed or printed twice.
pub(super) async fn events(server: &Server, path: &str, after: Option<HistoryOffset>) -> Result<ExitCode> {
    let mut reader = Reader { last_id: after.map(|after| after.to_string()), pause: PAUSES[0], failures: 0 };
    let mut is_first = true;
    loop {
        let call = Call::new(Method::GET, path).header("last-event-id", reader.last_id.clone());
        let mut at_least = Duration::ZERO;
        match server.stream(call).await {
            // A server that cannot be reached at the first try is most likely named wrongly.
            Err(error) if is_first => return Err(error),
            Err(error) => reader.failed(&format!("{error:#}")),
            Ok(Err(answer)) => {
                let rejection = answer.accepted().err().unwrap_or_default();
                let Some(retry_after) = answer.retry_after() else { return Ok(rejected(&rejection)) };
                at_least = retry_after;
                reader.failed(&rejection);
            }
            Ok(Ok(stream)) => match reader.print_events(stream).await {
                Ok(()) => {}
                Err(Ended::Printing(error)) => return Err(error),
                Err(Ended::Reading(error)) => reader.failed(&format!("{error:#}")),
            },
        }
        is_first = false;
        sleep(reader.next_pause().max(at_least)).await;
    }
}

/// The progress of a reader over all its streams.
struct Reader {
    /// The id of the last event that was printed.
    last_id: Option<String>,
    /// The pause before the next stream.
    pause: Duration,
    /// The failures since the last bytes arrived.
    failures: u32,
}

/// Why a stream ended early.
enum Ended {
    /// The connection failed.
    Reading(anyhow::Error),
    /// Standard output failed.
    Printing(anyhow::Error),
}

impl Reader {
    /// Prints the events of one stream to its end.
    async fn print_events(&mut self, mut stream: Stream) -> Result<(), Ended> {
        let mut events = EventParser { last_id: self.last_id.clone(), ..EventParser::default() };
        while let Some(bytes) = stream.next().await.map_err(Ended::Reading)? {
            self.failures = 0;
            for event in events.feed(&bytes) {
                if event.name == "gap" {
                    say(&gap(&event.data));
                    continue;
                }
                print(format!("{} {}", event.id, event.data).as_bytes()).map_err(Ended::Printing)?;
            }
            self.last_id.clone_from(&events.last_id);
            self.pause = events.retry.unwrap_or(self.pause);
        }
        Ok(())
    }

    fn failed(&mut self, reason: &str) {
        self.failures = self.failures.saturating_add(1);
        say(&format!("{reason}; trying again"));
    }

    /// The pause before the next stream: it doubles after each failure, up to a limit.
    fn next_pause(&self) -> Duration {
        doubled(self.pause, self.failures.saturating_sub(1), PAUSES[1].max(self.pause))
    }
}

/// The message about a gap in a stream.
fn gap(data: &str) -> String {
    #[derive(Deserialize)]
    struct Gap {
        after: String,
        upto: String,
    }
    let Ok(Gap { after, upto }) = serde_json::from_str(data) else {
        return "the server no longer keeps all events; continuing".to_owned();
    };
    let offset = |text: &str| text.parse::<HistoryOffset>().ok();
    match offset(&after) > offset(&upto) {
        true => format!("the server's history ends at {upto}, before {after}; continuing after its end"),
        false => {
            format!(
                "events after {after} up to {upto} are no longer kept by the server; continuing after them"
            )
        }
    }
}

fn say(text: &str) {
    telemetry::say(&format!("orderstream: {text}"));
}

/// A complete event.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    id: String,
    data: String,
}

/// Parses server-sent events (WHATWG HTML, 9.2.6), as far as the server sends them: `event`, `id`, `data`, `retry` and
/// comments.
#[derive(Default)]
struct EventParser {
    /// A line that has not ended.
    line: Vec<u8>,
    /// The last `id` of a block that has ended, with an event or without.
    last_id: Option<String>,
    id: Option<String>,
    name: String,
    data: Vec<String>,
    /// The pause that the server asks for before the client reconnects.
    retry: Option<Duration>,
}

impl EventParser {
    /// The events that end within these bytes.
    fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                    events.extend(self.end_of_line(line.strip_suffix('\r').unwrap_or(&line)));
                }
                _ => self.line.push(*byte),
            }
        }
        events
    }

    fn end_of_line(&mut self, line: &str) -> Option<Event> {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            // An empty line ends a block; a block without data is not an event.
            "" if line.is_empty() => {
                self.last_id = self.id.take().or(self.last_id.take());
                let (data, name) = (std::mem::take(&mut self.data), std::mem::take(&mut self.name));
                let id = self.last_id.clone().unwrap_or_default();
                return (!data.is_empty()).then(|| Event { name, id, data: data.join("\n") });
            }
            "id" => self.id = Some(value.to_owned()),
            "event" => self.name = value.to_owned(),
            "retry" => self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry),
            "data" => self.data.push(value.to_owned()),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_about_a_gap_tells_dropped_events_from_a_history_that_ends_earlier() {
        let message = |after, upto| gap(&format!(r#"{{"after":"{after}","upto":"{upto}"}}"#));
        assert!(message("9-0", "10-0").contains("events after 9-0 up to 10-0 are no longer kept"));
        assert!(message("10-0", "9-0").contains("the server's history ends at 9-0, before 10-0"));
        assert!(gap("{}").contains("no longer keeps all"));
    }

    #[test]
    fn events_are_parsed_from_chunks_of_any_size() {
        let text = ":\nretry: 1500\nid: 6-0\n\nid: 7-0\nevent: order\ndata: {\"a\": 1}\n\n:\n\nid:8-0\r\ndata:x\r\ndata: y:z\r\n\r\nid: 9-0\n";
        let event = |name: &str, id: &str, data: &str| Event {
            name: name.to_owned(),
            id: id.to_owned(),
            data: data.to_owned(),
        };
        for size in 1..=text.len() {
            let mut events = EventParser::default();
            let read: Vec<Event> =
                text.as_bytes().chunks(size).flat_map(|bytes| events.feed(bytes)).collect();
            assert_eq!(read, [event("order", "7-0", "{\"a\": 1}"), event("", "8-0", "x\ny:z")], "{size}");
            assert_eq!(events.retry, Some(Duration::from_millis(1500)));
            // A block that has not ended does not count.
            assert_eq!(events.last_id.as_deref(), Some("8-0"));
        }
    }
}
