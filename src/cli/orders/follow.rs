//! `orders watch` and `orders events`: what happens to orders, as it happens.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::time::sleep;

use super::client::{Call, Method, Server, Stream};
use super::response::{accepted, print, refused};
use crate::backoff::doubled;
use crate::order::{HistoryOffset, OrderId, Status};
use crate::telemetry;

/// How often a watched order is looked at.
const WATCH_PERIOD: Duration = Duration::from_millis(250);

/// How long to wait before a stream that has ended is opened again, unless its server says so: at first, and at most
/// after many tries that brought nothing.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// The part of an order that a watcher looks at.
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

/// Prints a line at each change until the order is finished, or for ever. Looks at the order itself, which a server
/// without a history has, too.
pub(super) async fn watch(server: &Server, id: OrderId, follow: bool) -> Result<ExitCode> {
    let mut seen = String::new();
    loop {
        let answer = server.call(Call::new(Method::GET, format!("/orders/{id}"))).await?;
        let body = match accepted(&answer) {
            Ok(body) => body,
            Err(code) => return Ok(code),
        };
        let Watched { order } = serde_json::from_slice(body).context("the server's answer is no order")?;
        // Not the time: the worker's note that it has seen a deletion would show as a second one.
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
            return Ok(refused(&format!("the order failed: {}", order.reason.unwrap_or_default())));
        }
        sleep(WATCH_PERIOD).await;
    }
}

/// Prints the events of a stream, each behind its place, until the server refuses for good. A stream that ends is
/// opened again where it ended, so that nothing is missed and nothing printed twice.
pub(super) async fn events(server: &Server, path: &str, after: Option<HistoryOffset>) -> Result<ExitCode> {
    let mut reader = Reader { place: after.map(|after| after.to_string()), pause: PAUSES[0], failures: 0 };
    let mut is_first = true;
    loop {
        let call = Call::new(Method::GET, path).header("last-event-id", reader.place.clone());
        let mut at_least = Duration::ZERO;
        match server.stream(call).await {
            // A server that is not there from the beginning was named wrongly, most likely.
            Err(error) if is_first => return Err(error),
            Err(error) => reader.failed(&format!("{error:#}")),
            Ok(Err(answer)) => {
                let refusal = answer.accepted().err().unwrap_or_default();
                let Some(retry_after) = answer.retry_after() else { return Ok(refused(&refusal)) };
                at_least = retry_after;
                reader.failed(&refusal);
            }
            Ok(Ok(stream)) => match reader.relay(stream).await {
                Ok(()) => {}
                Err(Ended::Printing(error)) => return Err(error),
                Err(Ended::Reading(error)) => reader.failed(&format!("{error:#}")),
            },
        }
        is_first = false;
        sleep(reader.next_pause().max(at_least)).await;
    }
}

/// Where a reader of streams stands.
struct Reader {
    place: Option<String>,
    /// How long to wait before the next stream.
    pause: Duration,
    /// How many tries have failed since something came.
    failures: u32,
}

/// Why a stream ended out of order.
enum Ended {
    Reading(anyhow::Error),
    Printing(anyhow::Error),
}

impl Reader {
    /// Prints the events of one stream to its end.
    async fn relay(&mut self, mut stream: Stream) -> Result<(), Ended> {
        let mut events = Events { place: self.place.clone(), ..Events::default() };
        while let Some(bytes) = stream.next().await.map_err(Ended::Reading)? {
            self.failures = 0;
            for event in events.feed(&bytes) {
                if event.name == "gap" {
                    note(&gap(&event.data));
                    continue;
                }
                print(format!("{} {}", event.id, event.data).as_bytes()).map_err(Ended::Printing)?;
            }
            self.place.clone_from(&events.place);
            self.pause = events.retry.unwrap_or(self.pause);
        }
        Ok(())
    }

    fn failed(&mut self, reason: &str) {
        self.failures = self.failures.saturating_add(1);
        note(&format!("{reason}; trying again"));
    }

    /// Twice as long after each try that failed, up to a limit.
    fn next_pause(&self) -> Duration {
        doubled(self.pause, self.failures.saturating_sub(1), PAUSES[1].max(self.pause))
    }
}

/// What is said of steps that are lost.
fn gap(data: &str) -> String {
    #[derive(Deserialize)]
    struct Gap {
        after: String,
        upto: String,
    }
    let Ok(Gap { after, upto }) = serde_json::from_str(data) else {
        return "the server no longer keeps all events; going on".to_owned();
    };
    let place = |text: &str| text.parse::<HistoryOffset>().ok();
    match place(&after) > place(&upto) {
        true => format!("the server's history ends at {upto}, before {after}; going on behind its end"),
        false => format!(
            "events after {after} up to {upto} are no longer kept by the server; going on behind them"
        ),
    }
}

fn note(text: &str) {
    telemetry::say(&format!("orderstream: {text}"));
}

/// An event that has come whole.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    id: String,
    data: String,
}

/// Reads server-sent events (WHATWG HTML, 9.2.6), as far as a server sends them: `event`, `id`, `data`, `retry` and
/// comments.
#[derive(Default)]
struct Events {
    /// A line that has not ended.
    line: Vec<u8>,
    /// The last `id` of a block that has ended, with an event or without.
    place: Option<String>,
    id: Option<String>,
    name: String,
    data: Vec<String>,
    /// How long the server wants the client to wait before it comes back.
    retry: Option<Duration>,
}

impl Events {
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
            // An empty line ends an event; one without data is none.
            "" if line.is_empty() => {
                self.place = self.id.take().or(self.place.take());
                let (data, name) = (std::mem::take(&mut self.data), std::mem::take(&mut self.name));
                let id = self.place.clone().unwrap_or_default();
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
    fn a_gap_says_whether_events_are_gone_or_never_were() {
        let told = |after, upto| gap(&format!(r#"{{"after":"{after}","upto":"{upto}"}}"#));
        assert!(told("9-0", "10-0").contains("events after 9-0 up to 10-0 are no longer kept"));
        assert!(told("10-0", "9-0").contains("the server's history ends at 9-0, before 10-0"));
        assert!(gap("{}").contains("no longer keeps all"));
    }

    #[test]
    fn events_are_read_however_the_bytes_are_cut() {
        let text = ":\nretry: 1500\nid: 6-0\n\nid: 7-0\nevent: order\ndata: {\"a\": 1}\n\n:\n\nid:8-0\r\ndata:x\r\ndata: y:z\r\n\r\nid: 9-0\n";
        let event = |name: &str, id: &str, data: &str| Event {
            name: name.to_owned(),
            id: id.to_owned(),
            data: data.to_owned(),
        };
        for size in 1..=text.len() {
            let mut events = Events::default();
            let read: Vec<Event> =
                text.as_bytes().chunks(size).flat_map(|bytes| events.feed(bytes)).collect();
            assert_eq!(read, [event("order", "7-0", "{\"a\": 1}"), event("", "8-0", "x\ny:z")], "{size}");
            assert_eq!(events.retry, Some(Duration::from_millis(1500)));
            // What has not ended does not count.
            assert_eq!(events.place.as_deref(), Some("8-0"));
        }
    }
}
