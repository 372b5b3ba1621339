//! A processor of your own: business rules that run when an order is created or updated, instead of the default, which
//! computes the amount.
//!
//! This one adds a flat delivery fee to the amount, and lets an order without items fail with a reason. It runs as the
//! whole system in one process, with the settings of `orderstream up`:
//!
//! ```text
//! cargo run --example processor
//! ```
//!
//! A processor must be idempotent: it is called at least once for each version of an order, and may be called again
//! after a crash. A transient failure (`Transient`) is retried for `PROCESSOR_RETRY_FOR`; a permanent one (`Permanent`)
//! ends the order as `failed`, with the reason.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use orderstream::app::{self, Backends};
use orderstream::config::{Flags, LogFormat, Settings};
use orderstream::order::{Amount, Event};
use orderstream::worker::{ProcessError, Processor};
use orderstream::{shutdown, telemetry};
use serde_json::Value;
use tokio::net::TcpListener;

/// The delivery fee, as an item of the payload.
const DELIVERY: &str = r#"{"id":"delivery","price":"4.90"}"#;

/// Adds the delivery fee.
struct WithDelivery;

#[async_trait]
impl Processor for WithDelivery {
    async fn process(&self, event: &Event) -> Result<Amount, ProcessError> {
        let permanent = |error: &dyn std::fmt::Display| ProcessError::Permanent(error.to_string());
        let payload: Value =
            serde_json::from_str(event.payload.as_str()).map_err(|error| permanent(&error))?;
        let items = payload.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if items.is_empty() {
            return Err(permanent(&"the order has no items"));
        }
        // The rule of the default processor, for the items and the fee. Here the items are parsed as `f64`; a processor
        // that must keep every digit reads the text of the payload, as `Amount::of_payload` does.
        let items: Vec<String> = items.iter().map(Value::to_string).collect();
        let total = format!(r#"{{"items":[{},{DELIVERY}]}}"#, items.join(","));
        Amount::of_payload(&total).map_err(|error| permanent(&error))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let loaded = Settings::load(&Flags::default(), std::env::vars())?;
    let settings = &loaded.settings;
    telemetry::init(&settings.log_level, settings.log_format == LogFormat::Json)?;
    let stop = shutdown::on_signals()?;
    let backends = Backends { processor: Arc::new(WithDelivery), ..Backends::open(settings, "up").await? };
    let listener = TcpListener::bind((settings.bind, settings.api_port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    app::up(backends, listener, settings, stop).await
}
