//! What went wrong at the service, read from the SDK's errors: by AMQP condition and type, never by wording.

use std::error::Error;
use std::fmt;

use azure_core_amqp::{AmqpDescribedError, AmqpError, AmqpErrorCondition as Amqp, AmqpErrorKind};
use azure_messaging_eventhubs::EventHubsError;
use azure_messaging_eventhubs::error::ErrorKind;
use fe2o3_amqp::link::{DetachError, LinkStateError, RecvError};

use crate::model::PartitionId;
use crate::seams::{SourceError, SourceErrorKind};

/// What an error means for whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Links, sessions and connections end, services are busy: try again.
    Passing,
    /// Another reader took the link.
    Stolen,
    /// Credentials are missing, wrong or not sufficient.
    Unauthorized,
    /// No such namespace, hub, group or partition.
    NotFound,
    /// An argument, which for a reader is the start position, is not valid.
    Invalid,
    /// The message is larger than the hub takes.
    TooLarge,
}

/// An error of the SDK, understood.
#[derive(Debug)]
pub(super) struct Understood {
    pub(super) meaning: Meaning,
    /// The service's or the network's own words.
    pub(super) words: String,
}

/// Where it happened; every error names it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) event_hub: String,
    pub(super) consumer_group: String,
    pub(super) partition: Option<PartitionId>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event hub `{}`, consumer group `{}`", self.event_hub, self.consumer_group)?;
        self.partition.as_ref().map_or(Ok(()), |p| write!(f, ", partition {p}"))
    }
}

impl Place {
    /// The SDK failed while `doing` something here.
    pub(super) fn failed(&self, doing: &str, error: &EventHubsError) -> SourceError {
        let Understood { meaning, words } = understand(error);
        let kind = match meaning {
            Meaning::Passing | Meaning::TooLarge => SourceErrorKind::Transient,
            Meaning::Stolen => SourceErrorKind::Stolen,
            Meaning::Unauthorized => SourceErrorKind::Unauthorized,
            Meaning::NotFound => SourceErrorKind::NotFound,
            Meaning::Invalid => SourceErrorKind::InvalidPosition,
        };
        SourceError { kind, detail: format!("{self}: {doing}: {words}") }
    }

    /// Something passing happened that isn't an error of the SDK.
    pub(super) fn passing(&self, what: impl fmt::Display) -> SourceError {
        SourceError { kind: SourceErrorKind::Transient, detail: format!("{self}: {what}") }
    }
}

/// Reads an error from the outside in, until a layer knows what it means.
pub(super) fn understand(error: &EventHubsError) -> Understood {
    let mut layer: &(dyn Error + 'static) = error;
    loop {
        if let Some(understood) = of_layer(layer) {
            return understood;
        }
        match layer.source() {
            Some(inner) => layer = inner,
            // The innermost layer has the plainest words.
            None => return Understood { meaning: Meaning::Passing, words: layer.to_string() },
        }
    }
}

fn of_layer(layer: &(dyn Error + 'static)) -> Option<Understood> {
    if let Some(error) = layer.downcast_ref::<EventHubsError>() {
        return match &error.kind {
            ErrorKind::ConsumerDisconnected(described) => {
                let words = described.as_ref().map_or_else(|| "the link was taken".to_owned(), words);
                Some(Understood { meaning: Meaning::Stolen, words })
            }
            ErrorKind::SendRejected(Some(error)) => Some(described(error)),
            _ => None,
        };
    }
    if let Some(error) = layer.downcast_ref::<AmqpError>() {
        return match error.kind() {
            AmqpErrorKind::AmqpDescribedError(error) => Some(described(error)),
            AmqpErrorKind::ManagementStatusCode(status, text) => {
                let meaning = match u16::from(*status) {
                    401 | 403 => Meaning::Unauthorized,
                    404 | 410 => Meaning::NotFound,
                    _ => Meaning::Passing,
                };
                let text = text.as_deref().unwrap_or("no description");
                Some(Understood { meaning, words: format!("status {}: {text}", u16::from(*status)) })
            }
            _ => None,
        };
    }
    if let Some(error) = layer.downcast_ref::<azure_core::Error>() {
        // What failed is inside; who could not get a token is said here.
        return matches!(error.kind(), azure_core::error::ErrorKind::Credential)
            .then(|| Understood { meaning: Meaning::Unauthorized, words: error.to_string() });
    }
    // The SDK boxes what ended a link without looking at it.
    let remote = if let Some(RecvError::LinkStateError(error)) = layer.downcast_ref::<RecvError>() {
        link_state(error)
    } else if let Some(error) = layer.downcast_ref::<LinkStateError>() {
        link_state(error)
    } else if let Some(DetachError::RemoteDetachedWithError(error) | DetachError::RemoteClosedWithError(error)) =
        layer.downcast_ref::<DetachError>()
    {
        Some(error)
    } else {
        None
    };
    remote.map(|error| described(&AmqpDescribedError::from(error.clone())))
}

fn link_state(error: &LinkStateError) -> Option<&fe2o3_amqp::types::definitions::Error> {
    match error {
        LinkStateError::RemoteDetachedWithError(error) | LinkStateError::RemoteClosedWithError(error) => Some(error),
        _ => None,
    }
}

fn described(error: &AmqpDescribedError) -> Understood {
    Understood { meaning: meaning(&error.condition), words: words(error) }
}

fn words(error: &AmqpDescribedError) -> String {
    match &error.description {
        Some(text) => format!("{} ({})", text, error.condition),
        None => error.condition.to_string(),
    }
}

/// After `amqp` 2.8.15 and "AMQP error conditions" of the Event Hubs protocol guide. What isn't known may pass.
fn meaning(condition: &Amqp) -> Meaning {
    match condition {
        Amqp::LinkStolen => Meaning::Stolen,
        Amqp::UnauthorizedAccess | Amqp::PublisherRevokedError => Meaning::Unauthorized,
        // The service answers "out of range" to a partition that isn't there.
        Amqp::NotFound | Amqp::ResourceDeleted | Amqp::ArgumentOutOfRangeError => Meaning::NotFound,
        Amqp::ArgumentError | Amqp::InvalidField => Meaning::Invalid,
        Amqp::LinkPayloadSizeExceeded => Meaning::TooLarge,
        _ => Meaning::Passing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fe2o3_amqp::types::definitions::{ErrorCondition, LinkError};

    fn condition(condition: Amqp) -> EventHubsError {
        let error = AmqpDescribedError::new(condition, Some("because".into()), Default::default());
        AmqpError::from(AmqpErrorKind::AmqpDescribedError(error)).into()
    }

    #[test]
    fn conditions_have_their_meaning() {
        for (given, meaning) in [
            (Amqp::LinkStolen, Meaning::Stolen),
            (Amqp::UnauthorizedAccess, Meaning::Unauthorized),
            (Amqp::NotFound, Meaning::NotFound),
            (Amqp::ArgumentOutOfRangeError, Meaning::NotFound),
            (Amqp::ArgumentError, Meaning::Invalid),
            (Amqp::LinkPayloadSizeExceeded, Meaning::TooLarge),
            (Amqp::ServerBusyError, Meaning::Passing),
            (Amqp::LinkDetachForced, Meaning::Passing),
            (Amqp::UnknownValue("com.example:new".into()), Meaning::Passing),
        ] {
            let name = given.to_string();
            let understood = understand(&condition(given));
            assert_eq!(understood.meaning, meaning, "{name}");
            assert_eq!(understood.words, format!("because ({name})"));
        }
    }

    #[test]
    fn what_the_sdk_boxes_is_found() {
        let stolen = fe2o3_amqp::types::definitions::Error::new(
            ErrorCondition::LinkError(LinkError::Stolen),
            Some("a higher epoch came".into()),
            None,
        );
        let received = RecvError::LinkStateError(LinkStateError::RemoteClosedWithError(stolen));
        let boxed = AmqpError::from(AmqpErrorKind::LinkStateError(Box::new(received)));
        let wrapped = azure_core::Error::with_error(azure_core::error::ErrorKind::Other, boxed, "while receiving");
        let understood = understand(&wrapped.into());
        assert_eq!(understood.meaning, Meaning::Stolen);
        assert_eq!(understood.words, "a higher epoch came (amqp:link:stolen)");
    }

    #[test]
    fn errors_without_a_condition_may_pass_and_keep_the_innermost_words() {
        let io = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let understood = understand(&AmqpError::from(azure_core::Error::from(io)).into());
        assert_eq!((understood.meaning, understood.words.as_str()), (Meaning::Passing, "connection refused"));
        // Seen in bursts while opening: a race inside the client.
        let race = AmqpError::with_message("Connection must have been closed");
        assert_eq!(understand(&race.into()).meaning, Meaning::Passing);
    }

    #[test]
    fn a_missing_token_and_a_status_of_the_management_node_are_told_apart() {
        let token = azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, "not signed in");
        assert_eq!(understand(&AmqpError::from(token).into()).meaning, Meaning::Unauthorized);
        let status = |code: u16| {
            let status = azure_core::http::StatusCode::from(code);
            understand(&AmqpError::from(AmqpErrorKind::ManagementStatusCode(status, None)).into()).meaning
        };
        assert_eq!(
            [status(401), status(404), status(503)],
            [Meaning::Unauthorized, Meaning::NotFound, Meaning::Passing]
        );
    }

    #[test]
    fn the_place_is_named() {
        let place =
            Place { event_hub: "flights".into(), consumer_group: "$default".into(), partition: Some("3".into()) };
        let error = place.failed("receiving", &condition(Amqp::LinkStolen));
        assert_eq!(error.kind, SourceErrorKind::Stolen);
        assert_eq!(
            error.detail,
            "event hub `flights`, consumer group `$default`, partition 3: receiving: because (amqp:link:stolen)"
        );
    }
}
