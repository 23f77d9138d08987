"""The official Python client against the namespace: every form of sending, receiving, and failing."""

import datetime
import socket
import struct
import threading
import uuid

from azure.eventhub import EventData, EventDataBatch, EventHubConsumerClient, EventHubProducerClient
from azure.eventhub._buffered_producer import PartitionResolver
from azure.eventhub.amqp import AmqpAnnotatedMessage, AmqpMessageBodyType
from azure.eventhub.exceptions import (
    AuthenticationError,
    ConnectError,
    EventHubError,
)

from harness import (
    ENDPOINT,
    Reader,
    case,
    connection_string,
    control,
    equal,
    fault,
    main,
    new_hub,
    raises,
    wait_for,
)


def producer(hub, **options):
    return EventHubProducerClient.from_connection_string(connection_string(hub), **options)


def consumer(hub, group="$default", **options):
    return EventHubConsumerClient.from_connection_string(connection_string(hub), group, **options)


def read(hub, count, partition="0", group="$default", client=None, **options):
    """Reads `count` events of one partition."""
    with Reader(consumer(hub, group, **(client or {})), partition_id=partition, **options) as reader:
        return reader.take(count)


def send(hub, bodies, **where):
    with producer(hub) as client:
        batch = client.create_batch(**where)
        for body in bodies:
            batch.add(EventData(body))
        client.send_batch(batch)


def bodies(events):
    return [event.body_as_str() for event in events]


def numbered(count, first=0):
    return [f"event {number}" for number in range(first, first + count)]


# --- properties


@case
def properties_of_a_hub():
    hub = new_hub(partitions=4)
    with producer(hub) as client:
        properties = client.get_eventhub_properties()
        equal(properties["eventhub_name"], hub)
        equal(properties["partition_ids"], ["0", "1", "2", "3"])
        assert abs(datetime.datetime.now(datetime.timezone.utc) - properties["created_at"]) < datetime.timedelta(minutes=5)
        equal(client.get_partition_ids(), ["0", "1", "2", "3"])
    with consumer(hub) as client:
        equal(client.get_partition_ids(), ["0", "1", "2", "3"])


@case
def properties_of_a_partition():
    hub = new_hub()
    with consumer(hub) as client:
        empty = client.get_partition_properties("1")
        equal((empty["eventhub_name"], empty["id"], empty["is_empty"]), (hub, "1", True))
        equal(empty["last_enqueued_sequence_number"], -1)
        send(hub, numbered(3), partition_id="1")
        full = client.get_partition_properties("1")
        equal((full["is_empty"], full["beginning_sequence_number"], full["last_enqueued_sequence_number"]), (False, 0, 2))
        last = read(hub, 3, "1")[-1]
        equal(full["last_enqueued_offset"], last.offset)
        equal(full["last_enqueued_time_utc"], last.enqueued_time)
        equal(client.get_partition_properties("0")["is_empty"], True)


@case
def properties_of_an_unknown_hub():
    with consumer("no-such-hub", retry_total=0) as client:
        raises(ConnectError, client.get_eventhub_properties, says="no-such-hub")


@case
def properties_of_an_unknown_partition():
    with consumer(new_hub(), retry_total=0) as client:
        raises(EventHubError, client.get_partition_properties, "99")


@case
def properties_after_partitions_were_added():
    hub = new_hub()
    with consumer(hub) as client:
        equal(client.get_partition_ids(), ["0", "1"])
        control("POST", f"/hubs/{hub}/partitions", {"add": 2})
        equal(client.get_partition_ids(), ["0", "1", "2", "3"])
    send(hub, ["new"], partition_id="3")
    equal(bodies(read(hub, 1, "3")), ["new"])


# --- sending


@case
def send_one_event():
    hub = new_hub(partitions=1)
    with producer(hub) as client:
        client.send_event(EventData("one"))
    equal(bodies(read(hub, 1)), ["one"])


@case
def send_a_list():
    hub = new_hub(partitions=1)
    with producer(hub) as client:
        client.send_batch([EventData(body) for body in numbered(5)])
    equal(bodies(read(hub, 5)), numbered(5))


@case
def send_a_batch():
    hub = new_hub(partitions=1)
    send(hub, numbered(200))
    events = read(hub, 200)
    equal(bodies(events), numbered(200))
    equal([event.sequence_number for event in events], list(range(200)))


@case
def send_to_a_partition():
    hub = new_hub(partitions=4)
    for partition in "0", "1", "2", "3":
        send(hub, [f"for {partition}"], partition_id=partition)
    for partition in "0", "1", "2", "3":
        equal(bodies(read(hub, 1, partition)), [f"for {partition}"])


@case
def send_by_key_goes_where_the_service_puts_it():
    hub = new_hub(partitions=32)
    resolver = PartitionResolver([str(number) for number in range(32)])
    keys = [f"key {number}" for number in range(40)] + ["ü", "日本", "a" * 128, " "]
    with producer(hub) as client, Reader(consumer(hub)) as reader:
        for key in keys:
            batch = client.create_batch(partition_key=key)
            batch.add(EventData(key))
            client.send_batch(batch)
        reader.take(len(keys))
        for context, event in reader.events:
            equal(event.partition_key, event.body_as_str().encode(), "the key that came back")
            equal(context.partition_id, resolver.get_partition_id_by_partition_key(event.body_as_str()), event.body_as_str())


@case
def send_without_key_goes_round():
    hub = new_hub(partitions=4)
    with producer(hub) as client:
        for body in numbered(8):
            client.send_event(EventData(body))
    counts = [partition["events"] for partition in control("GET", f"/hubs/{hub}")["partitions"]]
    equal(counts, [2, 2, 2, 2])


@case
def send_buffered():
    hub = new_hub(partitions=4)
    sent, failed = [], []
    client = producer(
        hub,
        buffered_mode=True,
        on_success=lambda events, partition: sent.extend(events),
        on_error=lambda events, partition, error: failed.append(error),
        max_wait_time=1,
    )
    with client, Reader(consumer(hub)) as reader:
        client.send_batch([EventData(body) for body in numbered(20)])
        client.send_event(EventData("event 20"), partition_key="k")
        client.flush()
        equal((len(sent), failed), (21, []))
        equal(sorted(bodies(reader.take(21))), sorted(numbered(21)))


@case
def send_bodies_of_every_size():
    hub = new_hub(partitions=1)
    sizes = [0, 1, 254, 255, 256, 257, 15_700, 64 * 1024, 65_537, 1_000_000]
    with producer(hub) as client:
        for size in sizes:
            client.send_event(EventData(b"x" * size))
    equal([len(b"".join(event.body)) for event in read(hub, len(sizes))], sizes)


@case
def send_too_large():
    hub = new_hub(partitions=1)
    with producer(hub, retry_total=0) as client:
        batch = client.create_batch()
        equal(batch.max_size_in_bytes, 1024 * 1024)
        raises(ValueError, batch.add, EventData(b"x" * 1_100_000))
        raises(ValueError, client.create_batch, max_size_in_bytes=5 * 1024 * 1024)
        # Past the client's own check: the namespace refuses, and the client goes on afterwards.
        large = EventDataBatch(max_size_in_bytes=2 * 1024 * 1024)
        large.add(EventData(b"x" * 1_100_000))
        raises(EventHubError, client.send_batch, large)
        client.send_event(EventData("small"))
    equal(bodies(read(hub, 1)), ["small"])


@case
def send_to_an_unknown_partition():
    hub = new_hub()
    for partition in "XYZ", "-1", "1000", "-":
        with producer(hub, retry_total=0) as client:
            batch = client.create_batch(partition_id=partition)
            batch.add(EventData("nowhere"))
            raises(ConnectError, client.send_batch, batch)


@case
def send_to_an_unknown_hub():
    with producer("no-such-hub", retry_total=0) as client:
        raises(ConnectError, client.create_batch, partition_id="0", says="no-such-hub")


# --- receiving


@case
def receive_earliest():
    hub = new_hub()
    send(hub, numbered(10), partition_id="0")
    equal(bodies(read(hub, 10, starting_position="-1")), numbered(10))


@case
def receive_latest():
    hub = new_hub()
    send(hub, ["old"], partition_id="0")
    with Reader(consumer(hub), partition_id="0", starting_position="@latest") as reader:
        wait_for(lambda: receivers(hub) == 1, "the receiver to be attached")
        send(hub, ["new"], partition_id="0")
        equal(bodies(reader.take(1)), ["new"])


def receivers(hub):
    """How many receiving links the namespace has on the hub."""
    links = [link for connection in control("GET", "/connections") for link in connection["links"]]
    return sum(1 for link in links if link.get("role") == "receiver" and link.get("hub") == hub)


@case
def receive_from_an_offset():
    hub = new_hub(partitions=1)
    send(hub, numbered(10))
    middle = read(hub, 10)[4]
    equal(bodies(read(hub, 5, starting_position=middle.offset)), numbered(5, 5))
    equal(bodies(read(hub, 6, starting_position=middle.offset, starting_position_inclusive=True)), numbered(6, 4))


@case
def receive_from_a_sequence_number():
    hub = new_hub(partitions=1)
    send(hub, numbered(10))
    equal(bodies(read(hub, 5, starting_position=4)), numbered(5, 5))
    equal(bodies(read(hub, 6, starting_position=4, starting_position_inclusive=True)), numbered(6, 4))


@case
def receive_from_an_enqueued_time():
    hub = new_hub(partitions=1)
    send(hub, ["old"])
    old = read(hub, 1)[0].enqueued_time
    wait_for(lambda: datetime.datetime.now(datetime.timezone.utc) - old > datetime.timedelta(milliseconds=20), "the clock")
    send(hub, ["new"])
    new = read(hub, 2)[1].enqueued_time
    assert new > old, f"{new} is not after {old}"
    equal(bodies(read(hub, 1, starting_position=old)), ["new"])
    before = old - datetime.timedelta(seconds=1)
    equal(bodies(read(hub, 2, starting_position=before)), ["old", "new"])


@case
def receive_what_comes_while_reading():
    hub = new_hub(partitions=1)
    with Reader(consumer(hub), partition_id="0") as reader, producer(hub) as client:
        for body in numbered(50):
            client.send_event(EventData(body))
        equal(bodies(reader.take(50)), numbered(50))


@case
def receive_all_partitions_at_once():
    hub = new_hub(partitions=4)
    for partition in range(4):
        send(hub, numbered(25, partition * 25), partition_id=str(partition))
    with Reader(consumer(hub)) as reader:
        equal(sorted(bodies(reader.take(100))), sorted(numbered(100)))


@case
def receive_in_several_groups():
    hub = new_hub(partitions=1)
    send(hub, numbered(3))
    for group in "$default", "$Default", "another":
        equal(bodies(read(hub, 3, group=group)), numbered(3))


@case
def receive_in_an_unknown_group():
    hub = new_hub(partitions=1, groups=["known"])
    send(hub, ["x"])
    equal(bodies(read(hub, 1, group="known")), ["x"])
    with Reader(consumer(hub, "unknown", retry_total=0), partition_id="0") as reader:
        assert isinstance(reader.error(), EventHubError)


@case
def receive_from_an_unknown_hub():
    with Reader(consumer("no-such-hub", retry_total=0), partition_id="0") as reader:
        assert isinstance(reader.error(), (AuthenticationError, ConnectError)), reader.error()


@case
def receive_with_little_credit():
    hub = new_hub(partitions=1)
    send(hub, numbered(50))
    equal(bodies(read(hub, 50, prefetch=1)), numbered(50))


@case
def receive_with_last_enqueued_properties():
    hub = new_hub(partitions=1)
    send(hub, numbered(3))
    with Reader(consumer(hub), partition_id="0", track_last_enqueued_event_properties=True) as reader:
        last = reader.take(3)[-1]
        tracked = reader.events[-1][0].last_enqueued_event_properties
    equal(tracked["sequence_number"], last.sequence_number)
    equal(tracked["offset"], last.offset)
    equal(tracked["enqueued_time"], last.enqueued_time)
    assert tracked["retrieval_time"] is not None


@case
def receive_nothing_within_the_wait_time():
    batches = []
    there = threading.Event()

    def on_batch(_context, batch):
        batches.append(batch)
        there.set()

    client = consumer(new_hub(partitions=1))
    arguments = {"on_event_batch": on_batch, "max_wait_time": 1, "starting_position": "-1"}
    thread = threading.Thread(target=client.receive_batch, kwargs=arguments, daemon=True)
    thread.start()
    assert there.wait(60), "the callback was not called without events"
    client.close()
    thread.join(60)
    equal(batches[0], [])


@case
def resume_after_a_checkpoint():
    hub = new_hub(partitions=1)
    send(hub, numbered(10))
    first = read(hub, 4)
    equal(bodies(read(hub, 6, starting_position=first[3].offset)), numbered(6, 4))
    send(hub, numbered(5, 10))
    equal(bodies(read(hub, 5, starting_position=9)), numbered(5, 10))


# --- owner level


@case
def a_higher_owner_level_takes_over():
    hub = new_hub(partitions=1)
    send(hub, ["x"])
    with Reader(consumer(hub, retry_total=0), partition_id="0", owner_level=1) as low:
        low.take(1)
        with Reader(consumer(hub), partition_id="0", owner_level=2) as high:
            high.take(1)
            error = low.error()
            assert isinstance(error, EventHubError) and "stolen" in str(error), error


@case
def an_equal_owner_level_takes_over():
    hub = new_hub(partitions=1)
    send(hub, ["x"])
    with Reader(consumer(hub, retry_total=0), partition_id="0", owner_level=1) as first:
        first.take(1)
        with Reader(consumer(hub), partition_id="0", owner_level=1) as second:
            second.take(1)
            assert "stolen" in str(first.error())


@case
def a_lower_or_missing_owner_level_is_refused():
    hub = new_hub(partitions=1)
    send(hub, ["x"])
    with Reader(consumer(hub), partition_id="0", owner_level=5) as high:
        high.take(1)
        for level in 4, None:
            with Reader(consumer(hub, retry_total=0), partition_id="0", owner_level=level) as low:
                assert "stolen" in str(low.error()) or "epoch" in str(low.error()), low.error()
                equal(low.events, [])
        send(hub, ["y"])
        equal(bodies(high.take(2)), ["x", "y"])


@case
def readers_without_owner_level_share_a_partition():
    hub = new_hub(partitions=1)
    send(hub, numbered(5))
    with Reader(consumer(hub), partition_id="0") as first, Reader(consumer(hub), partition_id="0") as second:
        equal(bodies(first.take(5)), numbered(5))
        equal(bodies(second.take(5)), numbered(5))


# --- what an event is made of


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
        "long": 2**63 - 1,
        "least": -(2**63),
        "double": 0.1,
        "text": "Grüße, 世界",
        "empty": "",
        "long text": "x" * 300,
        "binary": b"\x00\xff",
        "uuid": identity,
    }
    with producer(hub) as client:
        event = EventData("x")
        event.properties = {**properties, "moment": moment}
        client.send_event(event)
    received = dict(read(hub, 1)[0].properties)
    came = {key.decode(): value for key, value in received.items()}
    at = came.pop("moment")
    equal(at, int(moment.timestamp() * 1000), "the timestamp, in milliseconds")
    for key, value in properties.items():
        expected = value.encode() if isinstance(value, str) else value
        equal(came[key], expected, key)
    equal(len(came), len(properties))


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
            "message_id": "m", "user_id": b"u", "to": "t", "subject": "s", "reply_to": "r", "correlation_id": "c",
            "content_type": "ct", "content_encoding": "ce", "group_id": "g", "group_sequence": 3, "reply_to_group_id": "rg",
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
        client.send_batch([AmqpAnnotatedMessage(data_body=[b"a", b"", b"bc"]), EventData("text"), EventData(b"\x00\xff")])
    first, second, third = read(hub, 3)
    equal(first.body_type, AmqpMessageBodyType.DATA)
    equal(list(first.body), [b"a", b"", b"bc"])
    equal(second.body_as_str(), "text")
    equal(b"".join(third.body), b"\x00\xff")


@case
def bodies_of_values():
    hub = new_hub(partitions=1)
    values = [None, True, 7, 2**40, 0.25, "text", b"bytes", uuid.UUID(int=5), [1, "two", [b"three"]], {"k": {"n": 1}}]
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


# --- when things break


@case
def a_producer_reconnects_after_its_connection_was_closed():
    hub = new_hub(partitions=1)
    with producer(hub) as client:
        client.send_event(EventData("before"), partition_id="0")
        client._producers["0"]._handler._connection.close()
        client.send_event(EventData("after"), partition_id="0")
    equal(bodies(read(hub, 2)), ["before", "after"])


def _reader_survives(action):
    hub = new_hub(partitions=1)
    send(hub, numbered(20))
    fault(action, at="delivery", skip=10, target={"hub": hub, "role": "receiver"})
    with Reader(consumer(hub, retry_backoff_factor=0.1), partition_id="0") as reader:
        equal(bodies(reader.take(20)), numbered(20), "each event once, in order")
        equal([event.sequence_number for _, event in reader.events], list(range(20)))


@case
def a_reader_goes_on_after_a_detach():
    _reader_survives("detach")


@case
def a_reader_goes_on_after_its_session_ended():
    _reader_survives("end-session")


@case
def a_reader_goes_on_after_a_closed_connection():
    _reader_survives("close")


@case
def a_reader_goes_on_after_a_reset():
    _reader_survives("reset")


@case
def a_reader_goes_on_when_the_server_is_busy():
    _reader_survives("busy")


def _sender_survives(action):
    hub = new_hub(partitions=1)
    with producer(hub, retry_backoff_factor=0.1) as client:
        client.send_event(EventData("event 0"))
        fault(action, at="send", target={"hub": hub})
        for body in numbered(5, 1):
            client.send_event(EventData(body))
    received = bodies(read(hub, 6))
    equal(sorted(set(received)), numbered(6), "nothing is lost")


@case
def a_sender_goes_on_after_a_detach():
    _sender_survives("detach")


@case
def a_sender_goes_on_after_a_reset():
    _sender_survives("reset")


@case
def a_sender_goes_on_when_the_server_is_busy():
    _sender_survives("busy")


@case
def a_sender_whose_answer_is_lost_sends_again():
    hub = new_hub(partitions=1)
    fault("lose-answer", at="send", target={"hub": hub})
    with producer(hub, retry_backoff_factor=0.1) as client:
        client.send_event(EventData("twice"))
    equal(bodies(read(hub, 2)), ["twice", "twice"])


@case
def refused_tokens_are_an_authentication_error():
    hub = new_hub(partitions=1)
    fault("refuse", at="token", times=None)
    with producer(hub, retry_total=0) as client:
        raises(AuthenticationError, client.create_batch, partition_id="0")
    with consumer(hub, retry_total=0) as client:
        raises(AuthenticationError, client.get_eventhub_properties)
    control("DELETE", "/faults")
    send(hub, ["x"])


@case
def a_send_that_is_not_answered_times_out():
    hub = new_hub(partitions=1)
    fault("delay", at="send", **{"delay-ms": 30_000}, target={"hub": hub})
    with producer(hub, retry_total=0) as client:
        raises(EventHubError, client.send_batch, [EventData("late")], timeout=1)


@case
def what_is_not_amqp_ends_only_its_own_connection():
    hub = new_hub(partitions=1)
    host, port = ENDPOINT.rsplit(":", 1)
    header = b"AMQP\x00\x01\x00\x00"
    garbage = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"AMQP\x01\x00\x09\x01",
        header + struct.pack(">IBBH", 4, 2, 0, 0),
        header + struct.pack(">IBBH", 0xFFFF_FFFF, 2, 0, 0),
        header + struct.pack(">IBBH", 12, 2, 0, 0) + b"\x00\x53\x10\xd0",
        header + b"\xff" * 64,
    ]
    with Reader(consumer(hub), partition_id="0") as reader:
        for bytes_ in garbage:
            with socket.create_connection((host, int(port)), timeout=20) as raw:
                raw.sendall(bytes_)
                try:
                    while raw.recv(4096):
                        pass
                except ConnectionResetError:
                    pass
        send(hub, ["still here"])
        equal(bodies(reader.take(1)), ["still here"])


if __name__ == "__main__":
    main()
