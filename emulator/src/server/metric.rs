//! The runtime metric: with every event, where its partition ends now. A receiver asks for it with a capability of its link.
//!
//! It travels in delivery annotations, which belong to one delivery. The stored bytes stay as they are: the event goes out in
//! three pieces, with the metric between header and message annotations.

use bytes::{Bytes, BytesMut};
use weir_amqp::performative::Attach;
use weir_amqp::wire::{Descriptor, Reader, Symbol, Writer};

use crate::model::LogState;

/// Desired by the client, offered in the answer.
const CAPABILITY: &str = "com.microsoft:enable-receiver-runtime-metric";
const HEADER: u64 = 0x70;
const DELIVERY_ANNOTATIONS: u64 = 0x71;

/// Whether the client wants it.
pub(super) fn is_asked(attach: &Attach) -> bool {
    attach.desired_capabilities.iter().any(|capability| &**capability == CAPABILITY)
}

/// What the answer offers.
pub(super) fn offered(asked: bool) -> Vec<Symbol> {
    if asked { vec![CAPABILITY.into()] } else { Vec::new() }
}

/// The delivery annotations of the events pushed now.
pub(super) fn section(state: &LogState, now_ms: i64) -> Bytes {
    let mut out = BytesMut::new();
    let mut writer = Writer::new(&mut out);
    writer.descriptor(DELIVERY_ANNOTATIONS);
    let map = writer.begin_map();
    writer.symbol("last_enqueued_sequence_number");
    writer.long(state.last);
    writer.symbol("last_enqueued_offset");
    writer.string(&state.last_offset.to_string());
    writer.symbol("last_enqueued_time_utc");
    writer.timestamp(state.last_enqueued_ms.unwrap_or_default());
    writer.symbol("runtime_info_retrieval_time_utc");
    writer.timestamp(now_ms);
    writer.end_map(map, 8);
    out.freeze()
}

/// An event as it is stored, with `section` in the place of its producer's delivery annotations.
pub(super) fn with_section(event: &Bytes, section: &Bytes) -> [Bytes; 3] {
    let mut reader = Reader::new(event);
    let (mut header_end, mut rest) = (0, 0);
    // Stored events are well-formed: they were read on arrival. What does not read is passed on as it is.
    while let Ok(Descriptor::Code(code @ (HEADER | DELIVERY_ANNOTATIONS))) = reader.descriptor() {
        if reader.skip().is_err() {
            break;
        }
        rest = event.len() - reader.rest().len();
        if code == HEADER {
            header_end = rest;
        }
    }
    [event.slice(..header_end), section.clone(), event.slice(rest..)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER_SECTION: &[u8] = &[0x00, 0x53, 0x70, 0x45];
    const DELIVERY: &[u8] = &[0x00, 0x53, 0x71, 0xc1, 1, 0];
    const REST: &[u8] = &[0x00, 0x53, 0x72, 0xc1, 1, 0, 0x00, 0x53, 0x75, 0xa0, 1, b'x'];

    #[test]
    fn the_metric_stands_between_header_and_message_annotations() {
        let metric = Bytes::from_static(b"metric");
        for head in [&[][..], HEADER_SECTION, DELIVERY, &[HEADER_SECTION, DELIVERY].concat()] {
            let event = Bytes::from([head, REST].concat());
            let header = if head.starts_with(HEADER_SECTION) { HEADER_SECTION } else { &[] };
            assert_eq!(with_section(&event, &metric).concat(), [header, b"metric", REST].concat());
        }
    }
}
