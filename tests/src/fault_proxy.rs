//! A reverse proxy that breaks things on purpose: it stands between a host and Azurite, and does to single requests what networks and
//! services do to them.
//!
//! A [`Rule`] says which requests it is for, what becomes of them and how often; rules come and go while the proxy runs, the first one
//! that matches strikes. The proxy notes every request and what was answered ([`FaultProxy::exchanges`]), so that a test can assert that
//! its fault struck, and which writes the service has really taken. It speaks as much HTTP/1.1 as is needed: one request per connection,
//! bodies with a length.

mod clock;
mod http;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub use http::Operation;
use http::Request;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is not done, and answered with this status and error code of the service.
    Answer(u16, &'static str),
    /// It is not done, and the connection ends without an answer.
    Cut,
    /// It is done, and the connection ends without an answer.
    LoseAnswer,
    /// It is done after this time.
    Delay(Duration),
    /// It is neither done nor answered for as long as the rule stands; then the connection ends.
    Hang,
    /// It is kept, without an answer, until the rule is lifted, and done then: long after its sender has given up on it.
    HoldBack,
    /// It is done, and its answer has this header line as well.
    Header(&'static str),
    /// It is done, and every time in its answer is so many seconds later (earlier, if negative): the clocks of host and service differ.
    ShiftClock(i64),
    /// It is done, and only the `Date` of its answer is so many seconds later: the service's front end disagrees with its storage.
    ShiftDate(i64),
}

/// Which requests, what becomes of them, and how often.
#[derive(Clone, Debug)]
pub struct Rule {
    operation: Option<Operation>,
    path: String,
    skip: u64,
    times: u64,
    effect: Effect,
}

impl Rule {
    /// For all requests, until it is lifted.
    pub fn all(effect: Effect) -> Self {
        Self { operation: None, path: String::new(), skip: 0, times: u64::MAX, effect }
    }

    /// For this operation on blobs whose name ends like this (any, if it is empty), until it is lifted.
    pub fn on(operation: Operation, path: &str, effect: Effect) -> Self {
        Self { operation: Some(operation), path: path.into(), ..Self::all(effect) }
    }

    /// After so many matching requests.
    #[must_use]
    pub fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// That often.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    fn means(&self, request: &Request) -> bool {
        self.operation.is_none_or(|operation| operation == request.operation) && request.path.ends_with(&self.path)
    }
}

/// The number of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleId(u64);

/// A request that came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What was asked for.
    pub operation: Operation,
    /// The path without its query.
    pub path: String,
    /// Of a checkpoint's write: the sequence number that was to be written.
    pub sequence_number: Option<i64>,
    /// What the service answered; `None` where it wasn't asked.
    pub status: Option<u16>,
}

struct Standing {
    id: RuleId,
    rule: Rule,
    hits: u64,
    lifted: bool,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Vec<Standing>>,
    exchanges: Mutex<Vec<Exchange>>,
    ids: AtomicU64,
    /// Bumped when rules are lifted.
    changed: watch::Sender<u64>,
}

/// A running proxy. Dropping it ends it, and whatever is under way.
pub struct FaultProxy {
    address: String,
    shared: Arc<Shared>,
    listening: tokio::task::JoinHandle<()>,
}

impl FaultProxy {
    /// Starts one in front of `upstream`, an address like `127.0.0.1:10000`.
    ///
    /// # Panics
    /// When no port of this machine can be listened at.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|e| panic!("no port to listen at: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("no address: {e}")).to_string();
        let shared = Arc::new(Shared::default());
        let (serving, upstream) = (Arc::clone(&shared), upstream.to_owned());
        let listening = tokio::spawn(async move {
            // Ended with the listener.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (shared, upstream) = (Arc::clone(&serving), upstream.clone());
                connections.spawn(async move {
                    // Errors are broken connections, which is what this is all about.
                    let _ = shared.serve(connection, &upstream).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, shared, listening }
    }

    /// Where it listens, as `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Adds a rule, behind those that stand.
    pub fn add(&self, rule: Rule) -> RuleId {
        let id = RuleId(self.shared.ids.fetch_add(1, Ordering::Relaxed));
        self.shared.rules().push(Standing { id, rule, hits: 0, lifted: false });
        id
    }

    /// Lifts a rule. What it held back goes through now, what it let hang is cut.
    pub fn lift(&self, id: RuleId) {
        for standing in self.shared.rules().iter_mut().filter(|standing| standing.id == id) {
            standing.lifted = true;
        }
        self.shared.changed.send_modify(|n| *n += 1);
    }

    /// How often a rule has struck, lifted or not.
    pub fn hits(&self, id: RuleId) -> u64 {
        self.shared.rules().iter().find(|standing| standing.id == id).map_or(0, |standing| standing.hits)
    }

    /// Every request so far, in the order of the answers.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.exchanges().clone()
    }

    /// The sequence numbers that the service has accepted for a partition's checkpoint, in its order.
    pub fn committed(&self, partition: &str) -> Vec<i64> {
        let end = format!("/checkpoint/{partition}");
        let taken = |e: &&Exchange| e.path.ends_with(&end) && e.status == Some(201);
        self.shared.exchanges().iter().filter(taken).filter_map(|e| e.sequence_number).collect()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Vec<Standing>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exchanges(&self) -> MutexGuard<'_, Vec<Exchange>> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, mut connection: TcpStream, upstream: &str) -> std::io::Result<()> {
        let Some(request) = http::read(&mut connection).await? else { return Ok(()) };
        let effect = self.strike(&request);
        let change = match effect {
            None | Some((_, Effect::Header(_) | Effect::ShiftClock(_) | Effect::ShiftDate(_))) => {
                effect.map(|(_, e)| e)
            }
            Some((_, Effect::Answer(status, code))) => {
                self.note(&request, None);
                return connection.write_all(&http::refusal(status, code)).await;
            }
            Some((_, Effect::Cut)) => {
                self.note(&request, None);
                return Ok(());
            }
            Some((id, Effect::Hang)) => {
                self.note(&request, None);
                self.lifted(id).await;
                return Ok(());
            }
            Some((_, Effect::LoseAnswer)) => {
                self.forward(&request, upstream).await?;
                return Ok(());
            }
            Some((id, Effect::HoldBack)) => {
                self.lifted(id).await;
                self.forward(&request, upstream).await?;
                return Ok(());
            }
            Some((_, Effect::Delay(time))) => {
                tokio::time::sleep(time).await;
                None
            }
        };
        let mut answer = self.forward(&request, upstream).await?;
        match change {
            Some(Effect::ShiftClock(seconds)) => clock::shift(&mut answer, seconds, true),
            Some(Effect::ShiftDate(seconds)) => clock::shift(&mut answer, seconds, false),
            Some(Effect::Header(line)) => http::add_header(&mut answer, line),
            _ => {}
        }
        connection.write_all(&answer).await?;
        connection.shutdown().await
    }

    fn strike(&self, request: &Request) -> Option<(RuleId, Effect)> {
        let mut rules = self.rules();
        let mut matching = rules.iter_mut().filter(|s| !s.lifted && s.rule.times > 0 && s.rule.means(request));
        let standing = matching.next()?;
        if standing.rule.skip > 0 {
            standing.rule.skip -= 1;
            return None;
        }
        standing.rule.times -= 1;
        standing.hits += 1;
        Some((standing.id, standing.rule.effect.clone()))
    }

    async fn lifted(&self, id: RuleId) {
        let mut changed = self.changed.subscribe();
        while self.rules().iter().any(|standing| standing.id == id && !standing.lifted) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    async fn forward(&self, request: &Request, upstream: &str) -> std::io::Result<Vec<u8>> {
        let answer = http::ask(upstream, request).await?;
        self.note(request, http::status(&answer));
        Ok(answer)
    }

    fn note(&self, request: &Request, status: Option<u16>) {
        let Request { operation, path, sequence_number, .. } = request;
        let exchange =
            Exchange { operation: *operation, path: path.clone(), sequence_number: *sequence_number, status };
        self.exchanges().push(exchange);
    }
}
