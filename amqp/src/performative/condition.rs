//! The error conditions of the standard.

use crate::wire::Symbol;

macro_rules! conditions {
    ($($(#[$meta:meta])* $name:ident = $text:literal;)*) => {$(
        $(#[$meta])*
        pub const $name: Symbol = Symbol::from_static($text);
    )*};
}

conditions! {
    /// Something broke inside the peer.
    INTERNAL_ERROR = "amqp:internal-error";
    /// No such node.
    NOT_FOUND = "amqp:not-found";
    /// The peer may not do this.
    UNAUTHORIZED_ACCESS = "amqp:unauthorized-access";
    /// Data that could not be decoded.
    DECODE_ERROR = "amqp:decode-error";
    /// A quota is used up.
    RESOURCE_LIMIT_EXCEEDED = "amqp:resource-limit-exceeded";
    /// Not permitted in this state.
    NOT_ALLOWED = "amqp:not-allowed";
    /// A field with a value that is out of its range.
    INVALID_FIELD = "amqp:invalid-field";
    /// The peer does not do this.
    NOT_IMPLEMENTED = "amqp:not-implemented";
    /// Somebody else holds the resource.
    RESOURCE_LOCKED = "amqp:resource-locked";
    /// A condition of the request did not hold.
    PRECONDITION_FAILED = "amqp:precondition-failed";
    /// The resource went away.
    RESOURCE_DELETED = "amqp:resource-deleted";
    /// A frame that does not belong in this state.
    ILLEGAL_STATE = "amqp:illegal-state";
    /// A frame that does not fit the peer's limit.
    FRAME_SIZE_TOO_SMALL = "amqp:frame-size-too-small";
    /// An operator ended the connection.
    CONNECTION_FORCED = "amqp:connection:forced";
    /// The bytes are no valid frames.
    FRAMING_ERROR = "amqp:connection:framing-error";
    /// Go elsewhere.
    CONNECTION_REDIRECT = "amqp:connection:redirect";
    /// More transfers than the session window allows.
    WINDOW_VIOLATION = "amqp:session:window-violation";
    /// A link with this handle exists already.
    HANDLE_IN_USE = "amqp:session:handle-in-use";
    /// No link has this handle.
    UNATTACHED_HANDLE = "amqp:session:unattached-handle";
    /// The link errored; the session does not know it any more.
    ERRANT_LINK = "amqp:session:errant-link";
    /// An operator ended the link.
    DETACH_FORCED = "amqp:link:detach-forced";
    /// More transfers than the link credit allows.
    TRANSFER_LIMIT_EXCEEDED = "amqp:link:transfer-limit-exceeded";
    /// A message larger than the link allows.
    MESSAGE_SIZE_EXCEEDED = "amqp:link:message-size-exceeded";
    /// Attach elsewhere.
    LINK_REDIRECT = "amqp:link:redirect";
    /// Another receiver took the link over.
    LINK_STOLEN = "amqp:link:stolen";
}
