//! A network fault between a process and a server. While the network is cut, no byte passes in either direction and
//! neither side gets an error; when it is mended, connections that hung are closed and new ones pass. A connection can
//! also be broken before a given response of the server, which then never arrives.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// The response of the server before which the next connection that carries it is broken.
type BreaksAt = Arc<Mutex<Option<&'static [u8]>>>;

/// A proxy of a server, whose connections can be cut.
pub(crate) struct NetworkFault {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
    breaks_at: BreaksAt,
    _carrier: AbortOnDropHandle<()>,
}

impl NetworkFault {
    /// A network to a server, which passes all bytes until it is cut.
    pub(crate) async fn to(server: &str) -> NetworkFault {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a listener's address");
        let (is_cut, server) = (watch::Sender::new(false), server.to_owned());
        let (cut, breaks_at) = (is_cut.clone(), BreaksAt::default());
        let breaks = Arc::clone(&breaks_at);
        let _carrier = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.expect("a connection");
                tokio::spawn(carry(near, server.clone(), cut.subscribe(), Arc::clone(&breaks)));
            }
        }));
        NetworkFault { address, is_cut, breaks_at, _carrier }
    }

    /// `host:port` of the proxy.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Cuts the network.
    pub(crate) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Breaks the next connection on which the server sends these bytes, before them, once.
    pub(crate) fn break_at(&self, bytes: &'static [u8]) {
        *self.breaks_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
    }

    /// Mends the network.
    pub(crate) fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

async fn carry(mut near: TcpStream, server: String, mut is_cut: watch::Receiver<bool>, breaks_at: BreaksAt) {
    let mut state = is_cut.clone();
    tokio::select! {
        // Where the network is cut already, no byte passes.
        biased;
        _ = state.wait_for(|is_cut| *is_cut) => {}
        () = async {
            if let Ok(mut far) = TcpStream::connect(server).await {
                pass_on(&mut near, &mut far, &breaks_at).await;
            }
        } => return,
    }
    let _ = is_cut.wait_for(|is_cut| !*is_cut).await;
}

/// Passes bytes on in both directions, until both have ended or the connection is broken.
async fn pass_on(near: &mut TcpStream, far: &mut TcpStream, breaks_at: &BreaksAt) {
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.split(), far.split());
    let forth = async {
        let _ = copy(&mut from_near, &mut to_far).await;
        let _ = to_far.shutdown().await;
        // The other direction ends when the server has sent all.
        std::future::pending::<()>().await;
    };
    let back = async {
        let (mut chunk, mut seen) = (vec![0; 1 << 16], Vec::new());
        loop {
            let Ok(count @ 1..) = from_far.read(&mut chunk).await else { return };
            if is_due(breaks_at, &mut seen, &chunk[..count]) {
                return;
            }
            if to_near.write_all(&chunk[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = forth => {}
        () = back => {}
    }
}

/// Whether the connection is to be broken before these bytes; `seen` holds the end of the bytes before them.
fn is_due(breaks_at: &BreaksAt, seen: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let mut breaks_at = breaks_at.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(wanted) = *breaks_at else { return false };
    seen.extend_from_slice(bytes);
    let is_due = seen.windows(wanted.len()).any(|window| window == wanted);
    if is_due {
        *breaks_at = None;
    }
    // The wanted bytes may arrive in two parts.
    seen.drain(..seen.len().saturating_sub(wanted.len() - 1));
    is_due
}
