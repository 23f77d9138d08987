//! The loop of one connection: bytes in, bytes out, time, mail.

use std::future::pending;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;

use super::peer::Peer;
use crate::connections::{Client, Command};
use crate::namespace::Namespace;

/// Larger reads gain nothing (the kernel hands out less), smaller ones cost a third more per event.
const READ_BYTES: usize = 64 << 10;

/// Slices of one write: 256 events, each with its transfer frame in front.
const WRITE_SLICES: usize = 512;

/// Serves one client until it goes, breaks the protocol, or the namespace stops.
pub(super) async fn serve(stream: TcpStream, address: SocketAddr, namespace: Arc<Namespace>, stop: CancellationToken) {
    let client = Arc::new(Client::new(namespace.next_id(), address));
    namespace.enter(&client);
    let mut peer = Peer::new(Arc::clone(&namespace), Arc::clone(&client), Instant::now());
    match drive(&stream, &mut peer, &client, &stop).await {
        Ok(()) => tracing::debug!(%address, "connection closed"),
        Err(error) => tracing::debug!(%address, %error, "connection lost"),
    }
    if peer.is_reset()
        && let Err(error) = SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    {
        tracing::warn!(%address, %error, "can't reset the connection; it is closed instead");
    }
}

async fn drive(stream: &TcpStream, peer: &mut Peer, client: &Client, stop: &CancellationToken) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut stopping = false;
    let namespace = Arc::clone(&peer.namespace);
    loop {
        // Before the turn, which may find no room: what is made meanwhile counts.
        let room = namespace.room();
        peer.turn(Instant::now());
        if peer.is_reset() || peer.is_finished() {
            return Ok(());
        }
        // Decided here, behind the turn: a write below makes room, but what was read before comes first.
        let input = peer.wants_input();
        let interest = match (input, peer.has_output()) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        let deadline = peer.next_deadline();
        tokio::select! {
            ready = ready(stream, interest) => {
                let ready = ready?;
                if ready.is_writable() && peer.has_output() {
                    write(stream, peer)?;
                }
                if ready.is_readable() && input {
                    read(stream, peer, &mut buffer)?;
                }
            }
            () = sleep_until(deadline) => {}
            () = client.notified() => {}
            () = made(room), if peer.is_parked() => {}
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                client.tell(Command::Close);
            }
        }
    }
}

fn read(stream: &TcpStream, peer: &mut Peer, buffer: &mut BytesMut) -> io::Result<()> {
    buffer.reserve(READ_BYTES);
    match stream.try_read_buf(buffer) {
        Ok(0) => peer.feed_eof(),
        Ok(_) => peer.feed(buffer.split().freeze(), Instant::now()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn write(stream: &TcpStream, peer: &mut Peer) -> io::Result<()> {
    let output = peer.output();
    let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
    let count = output.chunks_vectored(&mut slices);
    match stream.try_write_vectored(&slices[..count]) {
        Ok(written) => output.advance(written),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn ready(stream: &TcpStream, interest: Option<Interest>) -> io::Result<tokio::io::Ready> {
    match interest {
        Some(interest) => stream.ready(interest).await,
        None => pending().await,
    }
}

async fn made(room: Option<Notified<'_>>) {
    match room {
        Some(room) => room.await,
        None => pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
