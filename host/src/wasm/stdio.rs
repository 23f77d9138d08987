//! A guest's stdout and stderr: the last few KiB of each call are kept, what is older is dropped, and writing never fails. A
//! Rust panic's message is the last thing on stderr, so it is the end that counts.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::text::clean;

/// Kept of each stream.
const KEPT: usize = 8 << 10;
/// What a guest may write at once.
const PERMIT: usize = 64 << 10;

#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
    dropped: usize,
}

/// One captured stream. Clones share it. The lock is never contended: the guest writes while its task runs, and the same task
/// reads between calls.
#[derive(Clone, Default)]
pub(super) struct Capture(Arc<Mutex<Tail>>);

impl Capture {
    fn tail(&self) -> std::sync::MutexGuard<'_, Tail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, bytes: &[u8]) {
        let mut tail = self.tail();
        let kept = &bytes[bytes.len().saturating_sub(KEPT)..];
        let excess = (tail.bytes.len() + kept.len()).saturating_sub(KEPT);
        tail.bytes.drain(..excess);
        tail.bytes.extend(kept);
        tail.dropped += excess + (bytes.len() - kept.len());
    }

    /// Takes what was written since the last time, as text fit for a log. Empty when nothing was.
    pub(super) fn take(&self) -> String {
        let tail = std::mem::take(&mut *self.tail());
        if tail.bytes.is_empty() {
            return String::new();
        }
        let bytes: Vec<u8> = tail.bytes.into();
        let text = clean(String::from_utf8_lossy(&bytes).trim_end(), usize::MAX, true);
        if tail.dropped == 0 { text } else { format!("({} bytes before this were dropped)\n{text}", tail.dropped) }
    }
}

impl IsTerminal for Capture {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Capture {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Capture {
    async fn ready(&mut self) {}
}

impl OutputStream for Capture {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

impl AsyncWrite for Capture {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_the_loss_is_named() {
        let capture = Capture::default();
        capture.push(&vec![b'x'; KEPT]);
        capture.push(b"the end");
        let text = capture.take();
        assert!(text.starts_with("(7 bytes before this were dropped)\nxxx"), "{}", &text[..50]);
        assert!(text.ends_with("xthe end"));
        assert_eq!(capture.take(), "");
        capture.push(&vec![b'y'; 3 * KEPT]);
        assert!(capture.take().starts_with("(16384 bytes"));
    }
}
