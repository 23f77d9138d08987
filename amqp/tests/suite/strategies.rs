//! Arbitrary values of every type.

use bytes::Bytes;
use proptest::prelude::*;
use weir_amqp::performative::{
    AmqpError, Attach, Begin, Close, DeliveryState, DeliveryTag, Detach, Disposition, End, Flow, Modified, Open,
    Performative, Received, ReceiverSettleMode, Role, SenderSettleMode, Source, Target, Transfer,
};
use weir_amqp::wire::{Array, Described, Map, Symbol, Value};

pub(crate) fn symbol() -> impl Strategy<Value = Symbol> {
    prop_oneof!["[ -~]{0,20}", "[a-z]{250,260}"].prop_map(Symbol::from)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,20}", "[a-z]{250,260}"]
}

pub(crate) fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 250..260)]
        .prop_map(Bytes::from)
}

/// Any primitive that is equal to itself: NaN is tested on its own.
pub(crate) fn primitive() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u8>().prop_map(Value::UByte),
        any::<u16>().prop_map(Value::UShort),
        prop_oneof![any::<u32>(), 0..300u32].prop_map(Value::UInt),
        prop_oneof![any::<u64>(), 0..300u64].prop_map(Value::ULong),
        any::<i8>().prop_map(Value::Byte),
        any::<i16>().prop_map(Value::Short),
        prop_oneof![any::<i32>(), -200..200i32].prop_map(Value::Int),
        prop_oneof![any::<i64>(), -200..200i64].prop_map(Value::Long),
        prop::num::f32::NORMAL.prop_map(Value::Float),
        prop::num::f64::NORMAL.prop_map(Value::Double),
        any::<[u8; 4]>().prop_map(Value::Decimal32),
        any::<[u8; 8]>().prop_map(Value::Decimal64),
        any::<[u8; 16]>().prop_map(Value::Decimal128),
        any::<char>().prop_map(Value::Char),
        any::<i64>().prop_map(Value::Timestamp),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        bytes().prop_map(Value::Binary),
        text().prop_map(Value::String),
        symbol().prop_map(Value::Symbol),
    ]
}

/// Elements of one type, by mapping arbitrary ones into it.
fn array(element: impl Strategy<Value = Value> + Clone + 'static) -> impl Strategy<Value = Value> {
    (element.clone(), prop::collection::vec(element, 0..6), any::<bool>()).prop_map(|(first, others, described)| {
        let mut items = vec![first.clone()];
        for other in others {
            items.push(if Array::new(vec![first.clone(), other.clone()]).is_ok() { other } else { first.clone() });
        }
        if described && !matches!(first, Value::Described(_)) {
            let descriptor = Value::ULong(items.len() as u64);
            items = items.into_iter().map(|value| Described { descriptor: descriptor.clone(), value }.into()).collect();
        }
        Value::Array(Array::new(items).unwrap())
    })
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    primitive().prop_recursive(4, 40, 6, |inner| {
        let inner = inner.boxed();
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::vec((inner.clone(), inner.clone()), 0..5)
                .prop_map(|entries| Value::Map(entries.into_iter().collect())),
            array(inner.clone()),
            (inner.clone(), inner).prop_map(|(descriptor, value)| Described { descriptor, value }.into()),
        ]
    })
}

pub(crate) fn map() -> impl Strategy<Value = Map> {
    prop::collection::vec((symbol(), value()), 0..4).prop_map(|entries| entries.into_iter().collect())
}

fn symbols() -> impl Strategy<Value = Vec<Symbol>> {
    prop::collection::vec(symbol(), 0..4)
}

pub(crate) fn error() -> impl Strategy<Value = AmqpError> {
    (symbol(), prop::option::of(text()), map()).prop_map(|(condition, description, info)| AmqpError {
        condition,
        description,
        info,
    })
}

pub(crate) fn state() -> impl Strategy<Value = DeliveryState> {
    prop_oneof![
        Just(DeliveryState::Accepted),
        Just(DeliveryState::Released),
        prop::option::of(error()).prop_map(|error| DeliveryState::Rejected { error }),
        (any::<u32>(), any::<u64>()).prop_map(|(section_number, section_offset)| {
            DeliveryState::Received(Received { section_number, section_offset })
        }),
        (any::<bool>(), any::<bool>(), map()).prop_map(|(delivery_failed, undeliverable_here, message_annotations)| {
            DeliveryState::Modified(Modified { delivery_failed, undeliverable_here, message_annotations })
        }),
        value().prop_map(|value| DeliveryState::Other(Box::new(Described { descriptor: Value::ULong(0x33), value }))),
    ]
}

fn source() -> impl Strategy<Value = Source> {
    let node = (prop::option::of(text()), any::<u32>(), symbol(), any::<u32>(), any::<bool>(), map());
    let rest = (prop::option::of(symbol()), map(), prop::option::of(state()), symbols(), symbols());
    (node, rest).prop_map(|(node, rest)| {
        let (address, durable, expiry_policy, timeout, dynamic, dynamic_node_properties) = node;
        let (distribution_mode, filter, default_outcome, outcomes, capabilities) = rest;
        Source {
            address,
            durable,
            expiry_policy,
            timeout,
            dynamic,
            dynamic_node_properties,
            distribution_mode,
            filter,
            default_outcome,
            outcomes,
            capabilities,
        }
    })
}

fn target() -> impl Strategy<Value = Target> {
    (prop::option::of(text()), any::<u32>(), symbol(), any::<u32>(), any::<bool>(), map(), symbols()).prop_map(
        |(address, durable, expiry_policy, timeout, dynamic, dynamic_node_properties, capabilities)| Target {
            address,
            durable,
            expiry_policy,
            timeout,
            dynamic,
            dynamic_node_properties,
            capabilities,
        },
    )
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Sender), Just(Role::Receiver)]
}

fn attach() -> impl Strategy<Value = Attach> {
    let modes = (
        prop_oneof![Just(SenderSettleMode::Unsettled), Just(SenderSettleMode::Settled), Just(SenderSettleMode::Mixed)],
        prop_oneof![Just(ReceiverSettleMode::First), Just(ReceiverSettleMode::Second)],
    );
    let ends = (prop::option::of(source()), prop::option::of(target()));
    let rest = (map(), any::<bool>(), any::<Option<u32>>(), any::<Option<u64>>(), symbols(), symbols(), map());
    (text(), any::<u32>(), role(), modes, ends, rest).prop_map(|(name, handle, role, modes, ends, rest)| {
        let (unsettled, incomplete_unsettled, initial_delivery_count, max_message_size, offered, desired, properties) =
            rest;
        Attach {
            name,
            handle,
            role,
            snd_settle_mode: modes.0,
            rcv_settle_mode: modes.1,
            source: ends.0,
            target: ends.1,
            unsettled,
            incomplete_unsettled,
            initial_delivery_count,
            max_message_size,
            offered_capabilities: offered,
            desired_capabilities: desired,
            properties,
        }
    })
}

fn open() -> impl Strategy<Value = Open> {
    let limits = (any::<u32>(), any::<u16>(), any::<Option<u32>>());
    (text(), prop::option::of(text()), limits, symbols(), symbols(), symbols(), map()).prop_map(
        |(container_id, hostname, limits, locales, offered, desired, properties)| Open {
            container_id,
            hostname,
            max_frame_size: limits.0,
            channel_max: limits.1,
            idle_time_out: limits.2,
            outgoing_locales: locales.clone(),
            incoming_locales: locales,
            offered_capabilities: offered,
            desired_capabilities: desired,
            properties,
        },
    )
}

fn begin() -> impl Strategy<Value = Begin> {
    let ids = (any::<Option<u16>>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    (ids, symbols(), symbols(), map()).prop_map(|(ids, offered_capabilities, desired_capabilities, properties)| Begin {
        remote_channel: ids.0,
        next_outgoing_id: ids.1,
        incoming_window: ids.2,
        outgoing_window: ids.3,
        handle_max: ids.4,
        offered_capabilities,
        desired_capabilities,
        properties,
    })
}

fn flow() -> impl Strategy<Value = Flow> {
    let session = (any::<Option<u32>>(), any::<u32>(), any::<u32>(), any::<u32>());
    let link = any::<[Option<u32>; 4]>();
    (session, link, any::<bool>(), any::<bool>(), map()).prop_map(|(session, link, drain, echo, properties)| Flow {
        next_incoming_id: session.0,
        incoming_window: session.1,
        next_outgoing_id: session.2,
        outgoing_window: session.3,
        handle: link[0],
        delivery_count: link[1],
        link_credit: link[2],
        available: link[3],
        drain,
        echo,
        properties,
    })
}

fn transfer() -> impl Strategy<Value = Transfer> {
    let tag = prop::option::of(prop::collection::vec(any::<u8>(), 0..=32));
    let flags = any::<[bool; 4]>();
    let rest = (any::<Option<bool>>(), any::<Option<bool>>(), prop::option::of(state()));
    (any::<u32>(), any::<Option<u32>>(), tag, any::<Option<u32>>(), flags, rest).prop_map(
        |(handle, delivery_id, tag, message_format, flags, rest)| Transfer {
            handle,
            delivery_id,
            delivery_tag: tag.map(|tag| DeliveryTag::new(&tag).unwrap()),
            message_format,
            settled: rest.0,
            more: flags[0],
            rcv_settle_mode: rest
                .1
                .map(|second| if second { ReceiverSettleMode::Second } else { ReceiverSettleMode::First }),
            state: rest.2,
            resume: flags[1],
            aborted: flags[2],
            batchable: flags[3],
        },
    )
}

fn disposition() -> impl Strategy<Value = Disposition> {
    (role(), any::<u32>(), any::<Option<u32>>(), any::<bool>(), prop::option::of(state()), any::<bool>()).prop_map(
        |(role, first, last, settled, state, batchable)| Disposition { role, first, last, settled, state, batchable },
    )
}

pub(crate) fn performative() -> impl Strategy<Value = Performative> {
    prop_oneof![
        open().prop_map(|p| Performative::Open(Box::new(p))),
        begin().prop_map(|p| Performative::Begin(Box::new(p))),
        attach().prop_map(|p| Performative::Attach(Box::new(p))),
        flow().prop_map(|p| Performative::Flow(Box::new(p))),
        transfer().prop_map(Performative::Transfer),
        disposition().prop_map(Performative::Disposition),
        (any::<u32>(), any::<bool>(), prop::option::of(error()))
            .prop_map(|(handle, closed, error)| Performative::Detach(Detach { handle, closed, error })),
        prop::option::of(error()).prop_map(|error| Performative::End(End { error })),
        prop::option::of(error()).prop_map(|error| Performative::Close(Close { error })),
    ]
}
