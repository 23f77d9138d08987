//! What the host does to a batch before the processor sees it, and what it refuses of the answer.

use super::Answer;
use crate::{Ack, Metadata, Origin, Progress};

/// Metadata that says nothing.
pub(super) fn nothing() -> Metadata {
    Metadata {
        offset: String::new(),
        content_type: None,
        message_id: None,
        correlation_id: None,
        properties: Vec::new(),
    }
}

/// Leaves out what the processor didn't select.
pub(super) fn mask(metadata: &mut Metadata, selected: &[String]) {
    let wants = |name: &str| selected.iter().any(|selected| selected == name);
    if !wants("offset") {
        metadata.offset.clear();
    }
    for (name, field) in [
        ("content-type", &mut metadata.content_type),
        ("message-id", &mut metadata.message_id),
        ("correlation-id", &mut metadata.correlation_id),
    ] {
        if !wants(name) {
            *field = None;
        }
    }
    if !wants("properties") {
        metadata.properties.retain(|property| {
            selected.iter().any(|name| name.strip_prefix("property:").is_some_and(|key| key == property.key))
        });
    }
}

/// What the host would refuse, if anything.
pub(super) fn breach(answer: &Answer, numbers: &[i64]) -> Option<String> {
    let count = numbers.len();
    let beyond = |index: u32, end: usize| usize::try_from(index).is_ok_and(|index| index >= end);
    let Ack { progress, rejected, redeliver } = &answer.ack;
    if let Some(redelivery) = redeliver.as_ref().filter(|redelivery| beyond(redelivery.index, count)) {
        return Some(format!("asks for index {} of a batch of {count} again", redelivery.index));
    }
    // What stands of the batch: the events before the redelivery.
    let standing = redeliver.as_ref().and_then(|redelivery| usize::try_from(redelivery.index).ok()).unwrap_or(count);
    if rejected.len() > count {
        return Some(format!("rejects {} events of a batch of {count}", rejected.len()));
    }
    if let Some(rejection) = rejected.iter().find(|rejection| beyond(rejection.index, standing)) {
        let index = rejection.index;
        return Some(match beyond(index, count) {
            true => format!("rejects index {index} of a batch of {count}"),
            false => format!("rejects index {index}, and asks for everything from index {standing} again"),
        });
    }
    if let Progress::Through(through) = progress {
        match numbers.get(standing) {
            Some(again) if through >= again => {
                return Some(format!("finished through {through}, but asks for {again} and what follows again"));
            }
            None if numbers.last().is_none_or(|last| through > last) => {
                let last = numbers.last().copied().unwrap_or(-1);
                return Some(format!("finished through {through}, but the last event handed over is {last}"));
            }
            _ => {}
        }
    }
    answer.outputs.iter().find_map(|output| match output.origin {
        Some(Origin::Event(index)) if beyond(index, count) => {
            Some(format!("an output comes from index {index} of a batch of {count}"))
        }
        _ => None,
    })
}

/// What the host would refuse of the answer to a tick, if anything.
pub(super) fn breach_of_tick(answer: &Answer) -> Option<String> {
    if !answer.ack.rejected.is_empty() || answer.ack.redeliver.is_some() {
        return Some("rejects or redelivers in a tick, where no event is in hand".to_owned());
    }
    let keyed = |origin: &Option<Origin>| matches!(origin, Some(Origin::Key(_)));
    answer.outputs.iter().any(|output| !keyed(&output.origin)).then(|| {
        "an output of a tick has no key as its origin, so a repeat would not be recognised: use `Output::from_key`"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_the_host_would_refuse_is_a_breach() {
        let breach = |ack| breach(&Answer { ack, outputs: Vec::new() }, &[10, 11, 12]);
        for sound in [
            Ack::all(),
            Ack::through(12),
            Ack::through(10).redeliver(1, "again"),
            Ack::all().reject(0, "bad").redeliver(1, "again"),
            Ack::all().reject(0, "bad").reject(1, "bad").reject(2, "bad"),
        ] {
            assert_eq!(breach(sound.clone()), None, "{sound:?}");
        }
        for (ack, why) in [
            (Ack::through(13), "finished through 13, but the last event handed over is 12"),
            (Ack::all().redeliver(3, "again"), "asks for index 3 of a batch of 3 again"),
            (Ack::all().reject(3, "bad"), "rejects index 3 of a batch of 3"),
            (Ack::through(11).redeliver(1, "again"), "finished through 11, but asks for 11 and what follows again"),
            (Ack::through(12).redeliver(1, "again"), "finished through 12, but asks for 11 and what follows again"),
            (
                Ack::all().reject(1, "bad").redeliver(1, "again"),
                "rejects index 1, and asks for everything from index 1 again",
            ),
            (
                Ack::all().reject(0, "bad").reject(0, "bad").reject(0, "bad").reject(0, "bad"),
                "rejects 4 events of a batch of 3",
            ),
        ] {
            assert_eq!(breach(ack).as_deref(), Some(why));
        }
    }
}
