//! How the rest of the namespace sees a connection, and reaches the task that owns it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use tokio::sync::Notify;

use crate::faults::{Action, Scope, Strike, Target};
use crate::model::{Wake, lock};
use crate::store::StoreError;

/// An order to the task of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Detach this link as stolen; `by` says by whom.
    Evict { link: u64, by: String },
    /// A fault strikes all links that match, or the connection.
    Strike { strike: Strike, target: Target },
    /// A fault is lifted; `None`: all are.
    Lift(Option<u64>),
    /// The namespace shuts down.
    Close,
}

/// What came in for a connection's task since it last looked. Bounded by the number of its links and of its own sends
/// under way; commands come from people and tests.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// Receivers for whom events have arrived.
    pub(crate) ready: Vec<u64>,
    /// Sends, by the number the task gave them, and what became of them.
    pub(crate) appended: Vec<(u64, Result<Range<i64>, StoreError>)>,
    pub(crate) commands: Vec<Command>,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    peer: SocketAddr,
    container: Mutex<String>,
    links: Mutex<BTreeMap<u64, LinkEntry>>,
    mail: Mutex<Mail>,
    notify: Notify,
}

#[derive(Debug)]
struct LinkEntry {
    name: String,
    scope: Scope,
    position: Arc<AtomicI64>,
}

/// A connection, as the control API shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConnectionInfo {
    /// Its number, to target faults with.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The client's container id.
    pub container: String,
    /// Its links to hubs and partitions.
    pub links: Vec<LinkInfo>,
}

/// A link, as the control API shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LinkInfo {
    /// The name the client gave it.
    pub name: String,
    /// What it is attached to.
    #[serde(flatten)]
    pub scope: Scope,
    /// Receiver: sequence number of the next event to be pushed. Sender: of the next event after its last.
    pub position: i64,
}

impl Client {
    pub(crate) fn new(id: u64, peer: SocketAddr) -> Self {
        let (container, links, mail) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { id, peer, container, links, mail, notify: Notify::new() }
    }

    pub(crate) fn opened(&self, container: &str) {
        *lock(&self.container) = container.chars().take(256).collect();
    }

    pub(crate) fn attached(&self, link: u64, name: &str, scope: Scope, position: Arc<AtomicI64>) {
        let name = name.chars().take(256).collect();
        lock(&self.links).insert(link, LinkEntry { name, scope, position });
    }

    pub(crate) fn detached(&self, link: u64) {
        lock(&self.links).remove(&link);
    }

    pub(crate) fn tell(&self, command: Command) {
        lock(&self.mail).commands.push(command);
        self.notify.notify_one();
    }

    pub(crate) fn appended(&self, send: u64, result: Result<Range<i64>, StoreError>) {
        lock(&self.mail).appended.push((send, result));
        self.notify.notify_one();
    }

    /// Strikes the connection, or its links that match; returns how many.
    pub(crate) fn strike(&self, strike: Strike, target: &Target) -> usize {
        let whole = matches!(strike.action, Action::Reset | Action::Stall | Action::Close);
        let itself = Scope { connection: self.id, ..Scope::default() };
        let links = lock(&self.links).values().filter(|link| target.matches(&link.scope)).count();
        let struck = match whole {
            true if target.is_connection_wide() => usize::from(target.matches(&itself)),
            true => links.min(1),
            false => links,
        };
        if struck > 0 {
            self.tell(Command::Strike { strike, target: target.clone() });
        }
        struck
    }

    pub(crate) fn take_mail(&self) -> Mail {
        std::mem::take(&mut *lock(&self.mail))
    }

    /// Waits until there is mail (or was, since the last wait).
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }

    pub(crate) fn info(&self) -> ConnectionInfo {
        let links = lock(&self.links);
        let links = links.values().map(|link| LinkInfo {
            name: link.name.clone(),
            scope: link.scope.clone(),
            position: link.position.load(Ordering::Relaxed),
        });
        ConnectionInfo {
            id: self.id,
            peer: self.peer,
            container: lock(&self.container).clone(),
            links: links.collect(),
        }
    }
}

impl Wake for Client {
    fn wake(&self, link: u64) {
        lock(&self.mail).ready.push(link);
        self.notify.notify_one();
    }
}
