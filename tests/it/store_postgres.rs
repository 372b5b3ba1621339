//! The Postgres store, put through the conformance suite, and what only a store that several processes and other
//! services share has to promise.

use std::sync::Arc;

use crate::store_conformance::{Fresh, store_conformance};
use crate::support::schema::Schema;

/// An empty store in a schema of its own.
async fn fresh() -> Fresh {
    let schema = Schema::migrated().await;
    Fresh { store: Arc::new(schema.open()), _keep: Box::new(schema) }
}

store_conformance!(fresh);
