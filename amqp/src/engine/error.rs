use thiserror::Error;

/// Why a command can't be carried out. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CommandError {
    /// The connection is closed or closing.
    #[error("the connection is closed")]
    Closed,
    /// The peer's open has not arrived.
    #[error("the connection is not open yet")]
    NotOpen,
    /// The session ended.
    #[error("the session has ended")]
    UnknownSession,
    /// The link was detached.
    #[error("the link is detached")]
    UnknownLink,
    /// The link is in another state: not answered yet, answered already, or detaching.
    #[error("the link is not in a state for this")]
    LinkState,
    /// Only the other end of a link does this.
    #[error("the link has the other role")]
    Role,
    /// The peer allows no more sessions.
    #[error("the peer allows no more sessions on this connection")]
    NoChannel,
    /// The peer allows no more links.
    #[error("the peer allows no more links in this session")]
    NoHandle,
    /// SASL is not waiting for an answer.
    #[error("no SASL exchange waits for an answer")]
    NoSasl,
}

/// Why a delivery can't be sent now. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// The link has no credit: wait for a `LinkFlow`.
    #[error("the receiver has given no credit")]
    NoCredit,
    /// The session's window is closed, or the delivery before is not out: wait for a `LinkFlow`.
    #[error("the session's window is closed")]
    WindowClosed,
    /// The peer's maximum message size does not allow it.
    #[error("a message of {size} bytes is larger than the {max} the receiver takes")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        max: u64,
    },
    /// The link can't send at all.
    #[error(transparent)]
    Command(#[from] CommandError),
}
