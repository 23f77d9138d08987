//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second for an end at once.

use tokio_util::sync::CancellationToken;

use super::failure::Failure;

/// Listens from now on. Without it a signal ends the process as usual.
pub(crate) struct Signals {
    /// The first signal came.
    pub(crate) drain: CancellationToken,
    /// The second one came.
    pub(crate) stop: CancellationToken,
}

impl Signals {
    /// Begins to listen; `on_first` is called when the first signal comes.
    pub(crate) fn listen(on_first: impl FnOnce() + Send + 'static) -> Result<Self, Failure> {
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let mut source =
            Source::new().map_err(|error| Failure::failed(format!("can't listen for signals: {error}")))?;
        let (first, second) = (drain.clone(), stop.clone());
        tokio::spawn(async move {
            source.next().await;
            on_first();
            first.cancel();
            source.next().await;
            second.cancel();
        });
        Ok(Self { drain, stop })
    }
}

#[cfg(unix)]
struct Source {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Source {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Source;

#[cfg(not(unix))]
impl Source {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
