//! The AMQP side: a task for each connection, which owns socket and engine.

mod address;
mod errors;
mod ingest;
mod limits;
mod metric;
mod peer;
mod receivers;
mod requests;
mod senders;
mod task;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, lookup_host};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::namespace::Namespace;

/// Largest message a client may send, as in the service's standard tier.
pub(crate) const MAX_MESSAGE_BYTES: u64 = 1 << 20;

/// Clients at the same time; more are turned away at once.
const MAX_CONNECTIONS: usize = 5000;

/// What the listening socket says of its segments. The Python client reads its socket's value and writes it back; what
/// loopback reports otherwise (65,483 and more) is more than the kernel lets anybody set.
const SEGMENT_BYTES: u32 = 32_000;

/// Listens on the first address that `address` stands for.
pub(crate) async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "it stands for no address");
    for address in lookup_host(address).await? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_mss(SEGMENT_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections until `stop`.
pub(crate) async fn run(listener: TcpListener, namespace: Arc<Namespace>, stop: CancellationToken, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                if namespace.connection_count() >= MAX_CONNECTIONS {
                    tracing::warn!(%peer, "turned away: {MAX_CONNECTIONS} connections are open");
                    continue;
                }
                if let Err(error) = SockRef::from(&stream).set_tcp_nodelay(true) {
                    tracing::debug!(%peer, %error, "can't switch Nagle's algorithm off");
                }
                tasks.spawn(task::serve(stream, peer, Arc::clone(&namespace), stop.clone()));
            }
            Err(error) => {
                // Out of file descriptors, mostly: wait for some to come back instead of spinning.
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}
