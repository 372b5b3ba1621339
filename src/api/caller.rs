//! The caller of a request, of either protocol: the peer whose share pays for what the request holds, and the request's
//! id. The middleware of a protocol finds out who calls, and puts the [`Caller`] among the extensions of the request.

use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::{HeaderMap, Uri};

use super::server::connection::Connection;
use super::server::forwarded::TrustedProxies;
use crate::config::REQUEST_OVERHEAD;
use crate::error::Error;
use crate::service::quota::{Peer, Permit, Resource};

/// How many headers are part of what every request counts, and what each further one takes up besides its text, in
/// bytes.
const USUAL_HEADERS: usize = 16;
const HEADER_OVERHEAD: usize = 128;

/// The caller of a request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// What the request makes the process hold is taken from this peer's share.
    pub(super) peer: Arc<Peer>,
    /// The id of the request.
    pub(super) request_id: HeaderValue,
}

impl Caller {
    /// Takes memory from the caller's share.
    ///
    /// # Errors
    /// `overloaded` where there is not enough.
    pub(super) fn take(&self, bytes: usize) -> Result<Permit, Error> {
        self.peer.take(Resource::Memory, bytes)
    }
}

/// The peer that a request comes from: behind a trusted proxy, the proxy's client.
pub(super) fn peer_of(proxies: &TrustedProxies, connection: &Connection, headers: &HeaderMap) -> Arc<Peer> {
    let peer = connection.peer();
    if !peer.speaks_for_others() {
        return Arc::clone(peer);
    }
    let client = proxies.client(headers);
    client.map_or_else(|| Arc::clone(peer), |client| peer.quotas().peer(client, proxies.contains(client)))
}

/// Takes the memory that a request holds before its body: a fixed part, and its head.
///
/// # Errors
/// `overloaded` where the peer's share does not have it.
pub(super) fn take_head(peer: &Arc<Peer>, uri: &Uri, headers: &HeaderMap) -> Result<Permit, Error> {
    peer.take(Resource::Memory, REQUEST_OVERHEAD + size_of_head(uri, headers))
}

/// How many bytes the head of a request takes up.
fn size_of_head(uri: &Uri, headers: &HeaderMap) -> usize {
    let entries = headers.len().saturating_sub(USUAL_HEADERS) * HEADER_OVERHEAD;
    let uri = uri.path_and_query().map_or(0, |text| text.as_str().len());
    headers.iter().fold(uri + entries, |size, (name, value)| size + name.as_str().len() + value.len() + 4)
}
