//! An exchange: a request and its response, while either takes memory. It holds the permits, and every part of the
//! response that waits for the peer keeps the exchange alive: memory is freed when the bytes are written to the socket,
//! or the connection is gone, and never when a handler returns.

use std::sync::Arc;
use std::time::Duration;

use super::clock::WriteProgress;
use super::connection::{Connection, Stallable};
use crate::error::Error;
use crate::service::quota::Permit;

/// The permits of a request and its response.
#[derive(Debug)]
pub(in crate::api) struct Exchange {
    connection: Arc<Connection>,
    memory: Option<Permit>,
    /// For gRPC, its permits among the open calls, and among those of its kind.
    _open: Option<Permit>,
    _call: Option<Permit>,
    progress: WriteProgress,
}

impl Exchange {
    /// Begins an exchange on a connection.
    pub(in crate::api) fn begin(connection: &Arc<Connection>) -> Exchange {
        connection.begin();
        let (connection, progress) = (Arc::clone(connection), WriteProgress::default());
        Exchange { connection, memory: None, _open: None, _call: None, progress }
    }

    /// The connection of the exchange.
    pub(in crate::api) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Records that a part of the response waits for the peer.
    pub(super) fn waits(&self) {
        self.progress.waits(self.connection.now());
        self.connection.waits();
    }

    /// Records that the peer has read a part of the response, or that the part is dropped.
    pub(super) fn took(&self) {
        self.progress.took(self.connection.now());
        self.connection.took();
    }

    /// Holds memory to the end; `None` where it is not counted.
    pub(in crate::api) fn hold(&mut self, memory: Option<Permit>) {
        self.memory = memory;
    }

    /// Holds a permit among the open calls to the end.
    pub(in crate::api) fn hold_open(&mut self, open: Permit) {
        self._open = Some(open);
    }

    /// Holds a permit among the calls of its kind to the end.
    pub(in crate::api) fn hold_call(&mut self, call: Permit) {
        self._call = Some(call);
    }

    /// Holds memory that was taken for the response earlier, where memory is counted.
    pub(in crate::api) fn hold_response(&mut self, response: Permit) {
        if let Some(memory) = &mut self.memory {
            memory.merge(response);
        }
    }

    /// Holds `bytes` more, where memory is counted.
    ///
    /// # Errors
    /// `overloaded` where there is not enough.
    pub(in crate::api) fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        match &mut self.memory {
            Some(memory) if bytes > 0 => memory.grow(bytes),
            _ => Ok(()),
        }
    }
}

impl Stallable for Exchange {
    fn is_stalled(&self, limit: Duration) -> bool {
        self.progress.is_stalled(self.connection.now(), limit)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.end();
    }
}
