//! A network fault between a process and a server. While the network is cut, no byte passes in either direction and
//! neither side is told; when it is mended, connections that hung are closed and new ones pass.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// A forwarder in front of a server, whose connections can be cut.
pub(crate) struct NetworkFault {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
    _carrier: AbortOnDropHandle<()>,
}

impl NetworkFault {
    /// A network to a server, which passes everything until it is cut.
    pub(crate) async fn to(server: &str) -> NetworkFault {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a listener's address");
        let (is_cut, server) = (watch::Sender::new(false), server.to_owned());
        let cut = is_cut.clone();
        let _carrier = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.expect("a connection");
                tokio::spawn(carry(near, server.clone(), cut.subscribe()));
            }
        }));
        NetworkFault { address, is_cut, _carrier }
    }

    /// `host:port` of the forwarder.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Cuts it.
    pub(crate) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Mends it.
    pub(crate) fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

async fn carry(mut near: TcpStream, server: String, mut is_cut: watch::Receiver<bool>) {
    let mut state = is_cut.clone();
    tokio::select! {
        // Where it is cut already, not a byte passes.
        biased;
        _ = state.wait_for(|is_cut| *is_cut) => {}
        () = async {
            if let Ok(mut far) = TcpStream::connect(server).await {
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        } => return,
    }
    let _ = is_cut.wait_for(|is_cut| !*is_cut).await;
}
