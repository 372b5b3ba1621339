//! An exchange: a request and its response, for as long as either takes up memory. It holds the permits, and every part
//! of the response that waits for the peer keeps the exchange alive: memory is given back when the bytes are written to
//! the socket, or the connection is gone, and not when a handler returns.

use std::sync::Arc;
use std::time::Duration;

use super::clock::WriteProgress;
use super::connection::{Connection, Stallable};
use crate::error::Error;
use crate::service::quota::Permit;

/// What a request and its response hold.
#[derive(Debug)]
pub(in crate::api) struct Exchange {
    connection: Arc<Connection>,
    memory: Option<Permit>,
    /// Of gRPC, its place among the calls that are there, and among those of its kind.
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

    /// The connection that it takes place on.
    pub(in crate::api) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Notes that a part of the response waits for the peer.
    pub(super) fn waits(&self) {
        self.progress.waits(self.connection.now());
        self.connection.waits();
    }

    /// Notes that the peer read a part of the response, or that the part is dropped.
    pub(super) fn took(&self) {
        self.progress.took(self.connection.now());
        self.connection.took();
    }

    /// Holds memory to the end; `None` where it is not counted.
    pub(in crate::api) fn hold(&mut self, memory: Option<Permit>) {
        self.memory = memory;
    }

    /// Holds a place among the calls that are there to the end.
    pub(in crate::api) fn hold_open(&mut self, open: Permit) {
        self._open = Some(open);
    }

    /// Holds a place among the calls to the end.
    pub(in crate::api) fn hold_call(&mut self, call: Permit) {
        self._call = Some(call);
    }

    /// Holds memory that was taken for the response before, where memory is counted.
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
