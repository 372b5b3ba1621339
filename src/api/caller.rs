//! The caller of a request, of either protocol: the peer whose share the request's memory counts against, and the
//! request's id. The middleware of a protocol determines the caller, and puts it among the extensions of the request.
//! Behind a trusted proxy the peer is the client that the proxy names, else the proxy itself; the headers of an
//! untrusted peer must never choose another one. The memory of a request's head is taken before its body is read.

use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::{HeaderMap, Uri};

use super::server::connection::Connection;
use super::server::forwarded::TrustedProxies;
use crate::config::REQUEST_OVERHEAD;
use crate::error::Error;
use crate::service::quota::{Peer, Permit, Resource};

/// The number of headers that the fixed cost of a request includes, and the bytes of each further one besides its text.
const USUAL_HEADERS: usize = 16;
const HEADER_OVERHEAD: usize = 128;

/// The caller of a request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The peer whose share the request's memory counts against.
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

/// The peer that sent a request: behind a trusted proxy, the proxy's client.
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
/// `overloaded` where the peer's share is used up.
pub(super) fn take_head(peer: &Arc<Peer>, uri: &Uri, headers: &HeaderMap) -> Result<Permit, Error> {
    peer.take(Resource::Memory, REQUEST_OVERHEAD + size_of_head(uri, headers))
}

/// The bytes that the head of a request counts.
fn size_of_head(uri: &Uri, headers: &HeaderMap) -> usize {
    let entries = headers.len().saturating_sub(USUAL_HEADERS) * HEADER_OVERHEAD;
    let uri = uri.path_and_query().map_or(0, |text| text.as_str().len());
    headers.iter().fold(uri + entries, |size, (name, value)| size + name.as_str().len() + value.len() + 4)
}
