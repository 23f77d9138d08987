//! The AMQP errors that clients get, with the conditions that the service uses: the SDKs decide by them what to retry.

use weir_amqp::performative::{AmqpError, condition};
use weir_amqp::wire::Symbol;

use crate::faults::{Action, Strike};
use crate::model::ReaderRefused;
use crate::store::StoreError;

pub(crate) const SERVER_BUSY: Symbol = Symbol::from_static("com.microsoft:server-busy");
const ARGUMENT_OUT_OF_RANGE: Symbol = Symbol::from_static("com.microsoft:argument-out-of-range");

/// The wording is the service's: the JavaScript SDK tells a missing entity from other failures by it.
pub(crate) fn not_found(entity: &str, why: impl std::fmt::Display) -> AmqpError {
    let entity: String = entity.chars().take(300).collect();
    AmqpError::new(condition::NOT_FOUND, format!("The messaging entity '{entity}' could not be found: {why}."))
}

pub(crate) fn out_of_range(what: impl std::fmt::Display) -> AmqpError {
    AmqpError::new(ARGUMENT_OUT_OF_RANGE, what.to_string())
}

pub(crate) fn stolen(why: impl std::fmt::Display) -> AmqpError {
    AmqpError::new(condition::LINK_STOLEN, why.to_string())
}

pub(crate) fn too_large(limit: u64) -> AmqpError {
    let text = format!("the message is larger than the {limit} bytes that this link takes");
    AmqpError::new(condition::MESSAGE_SIZE_EXCEEDED, text)
}

pub(crate) fn refused(why: &ReaderRefused) -> AmqpError {
    match why {
        ReaderRefused::Owned { .. } => stolen(why),
        ReaderRefused::TooMany => AmqpError::new(condition::RESOURCE_LIMIT_EXCEEDED, why.to_string()),
    }
}

pub(crate) fn store(error: &StoreError) -> AmqpError {
    AmqpError::new(condition::INTERNAL_ERROR, error.to_string())
}

/// What the client of a struck link, session or connection reads.
pub(crate) fn of_strike(strike: &Strike) -> AmqpError {
    let id = strike.id;
    let (condition, text) = match strike.action {
        Action::Steal => (condition::LINK_STOLEN, "the link was stolen"),
        Action::Busy => (SERVER_BUSY, "the server is busy"),
        Action::Refuse => (condition::UNAUTHORIZED_ACCESS, "the token was refused"),
        Action::EndSession => (condition::INTERNAL_ERROR, "the session was ended"),
        Action::Close => (condition::CONNECTION_FORCED, "the connection was closed"),
        _ => (condition::DETACH_FORCED, "the link was detached"),
    };
    AmqpError::new(condition, format!("{text} by fault {id}, which was asked for"))
}
