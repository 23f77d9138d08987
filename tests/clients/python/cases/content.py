"""What an event is made of comes back as it was sent."""

import datetime
import uuid

from azure.eventhub import EventData
from azure.eventhub.amqp import AmqpAnnotatedMessage, AmqpMessageBodyType
from clients import producer, read
from harness import case, equal, new_hub


@case
def application_properties_of_every_type():
    hub = new_hub(partitions=1)
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.timezone.utc)
    identity = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")
    properties = {
        "none": None,
        "true": True,
        "false": False,
        "zero": 0,
        "negative": -1,
        "int": 2**31 - 1,
        "double": 0.1,
        "text": "Grüße, 世界",
        "empty": "",
        "long text": "x" * 300,
        "binary": b"\x00\xff",
        "uuid": identity,
    }
    with producer(hub) as client:
        event = EventData("x")
        # The client writes every whole number as an int unless it is told the AMQP type.
        long = {"most": {"TYPE": "LONG", "VALUE": 2**63 - 1}, "least": {"TYPE": "LONG", "VALUE": -(2**63)}}
        event.properties = {**properties, **long, "moment": moment}
        client.send_event(event)
    received = dict(read(hub, 1)[0].properties)
    came = {key.decode(): value for key, value in received.items()}
    at = came.pop("moment")
    equal(at, int(moment.timestamp() * 1000), "the timestamp, in milliseconds")
    for key, value in {**properties, "most": 2**63 - 1, "least": -(2**63)}.items():
        expected = value.encode() if isinstance(value, str) else value
        equal(came[key], expected, key)
    equal(len(came), len(properties) + 2)


@case
def system_properties():
    hub = new_hub(partitions=1)
    with producer(hub) as client:
        event = EventData("x")
        event.content_type, event.message_id, event.correlation_id = "application/json", "m-1", "c-1"
        client.send_event(event, partition_key="k")
    event = read(hub, 1)[0]
    equal((event.content_type, event.message_id, event.correlation_id), ("application/json", "m-1", "c-1"))
    equal((event.partition_key, event.sequence_number), (b"k", 0))
    assert isinstance(event.offset, str) and event.enqueued_time is not None
    for name in b"x-opt-sequence-number", b"x-opt-offset", b"x-opt-enqueued-time", b"x-opt-partition-key":
        assert name in event.system_properties, f"{name} is missing from {event.system_properties}"


@case
def every_section_of_a_message():
    hub = new_hub(partitions=1)
    message = AmqpAnnotatedMessage(
        data_body=b"x",
        header={"priority": 7, "durable": True, "time_to_live": 60_000},
        properties={
            "message_id": "m",
            "user_id": b"u",
            "to": "t",
            "subject": "s",
            "reply_to": "r",
            "correlation_id": "c",
            "content_type": "ct",
            "content_encoding": "ce",
            "group_id": "g",
            "group_sequence": 3,
            "reply_to_group_id": "rg",
        },
        application_properties={"app": 1},
        annotations={"mine": "annotation"},
        footer={"foot": "note"},
    )
    with producer(hub) as client:
        client.send_event(message)
    raw = read(hub, 1)[0].raw_amqp_message
    equal((raw.header.priority, raw.header.durable), (7, True), "header")
    properties = raw.properties
    equal((properties.message_id, properties.user_id, properties.to), (b"m", b"u", b"t"))
    equal((properties.subject, properties.reply_to, properties.correlation_id), (b"s", b"r", b"c"))
    equal((properties.content_type, properties.content_encoding), (b"ct", b"ce"))
    equal((properties.group_id, properties.group_sequence, properties.reply_to_group_id), (b"g", 3, b"rg"))
    equal(raw.application_properties, {b"app": 1})
    equal(raw.annotations[b"mine"], b"annotation")
    equal(raw.footer, {b"foot": b"note"})


@case
def bodies_of_data_sections():
    hub = new_hub(partitions=1)
    with producer(hub) as client:
        client.send_batch(
            [AmqpAnnotatedMessage(data_body=[b"a", b"", b"bc"]), EventData("text"), EventData(b"\x00\xff")]
        )
    first, second, third = read(hub, 3)
    equal(first.body_type, AmqpMessageBodyType.DATA)
    equal(list(first.body), [b"a", b"", b"bc"])
    equal(second.body_as_str(), "text")
    equal(b"".join(third.body), b"\x00\xff")


@case
def bodies_of_values():
    hub = new_hub(partitions=1)
    values = [True, 7, -(2**31), 0.25, "text", b"bytes", uuid.UUID(int=5), [1, "two", [b"three"]], {"k": {"n": 1}}]
    with producer(hub) as client:
        for value in values:
            client.send_event(AmqpAnnotatedMessage(value_body=value))

    def as_received(value):
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, list):
            return [as_received(item) for item in value]
        if isinstance(value, dict):
            return {as_received(key): as_received(item) for key, item in value.items()}
        return value

    for event, value in zip(read(hub, len(values)), values):
        equal(event.body_type, AmqpMessageBodyType.VALUE, repr(value))
        equal(event.body, as_received(value))


@case
def bodies_of_sequences():
    hub = new_hub(partitions=1)
    with producer(hub) as client:
        client.send_event(AmqpAnnotatedMessage(sequence_body=[[1, 2, b"x"], [True, None]]))
    event = read(hub, 1)[0]
    equal(event.body_type, AmqpMessageBodyType.SEQUENCE)
    equal([list(section) for section in event.body], [[1, 2, b"x"], [True, None]])
