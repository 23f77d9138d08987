"""qpid-proton, an engine that shares no code with ours, as a plain AMQP client of the namespace."""

import uuid

from harness import ENDPOINT, PATIENCE, case, equal, main, new_hub, raises
from proton import Delivery, Described, Message, symbol, timestamp, ubyte, uint, ulong
from proton.reactor import AtMostOnce, Filter
from proton.utils import BlockingConnection, LinkDetached, SendException

URL = f"amqp://{ENDPOINT}"


def connect():
    return BlockingConnection(URL, timeout=PATIENCE, allowed_mechs="ANONYMOUS")


def address(hub, partition="0", group="$default"):
    return f"{hub}/ConsumerGroups/{group}/Partitions/{partition}"


def selector(expression):
    name = symbol("apache.org:selector-filter:string")
    return Filter({name: Described(name, expression)})


def publish(hub, *messages):
    connection = connect()
    sender = connection.create_sender(hub)
    for message in messages:
        equal(sender.send(message).remote_state, Delivery.ACCEPTED)
    connection.close()


def read(hub, count, options=None, credit=10):
    connection = connect()
    receiver = connection.create_receiver(address(hub), credit=credit, options=options)
    received = []
    for _ in range(count):
        # The namespace sends settled, as the service does: there is nothing to accept.
        received.append(receiver.receive(timeout=PATIENCE))
    connection.close()
    return received


@case
def a_message_there_and_back():
    hub = new_hub(partitions=1)
    sent = Message(body="text", subject="s", id="m-1", correlation_id=ulong(7), content_type="text/plain")
    publish(hub, sent)
    (received,) = read(hub, 1)
    equal((received.body, received.subject, received.id), ("text", "s", "m-1"))
    equal((received.correlation_id, received.content_type), (7, "text/plain"))
    equal(received.annotations[symbol("x-opt-sequence-number")], 0)
    assert symbol("x-opt-offset") in received.annotations and symbol("x-opt-enqueued-time") in received.annotations


@case
def values_of_every_type():
    hub = new_hub(partitions=1)
    values = {
        "null": None,
        "true": True,
        "false": False,
        "ubyte": ubyte(255),
        "uint": uint(2**32 - 1),
        "ulong": ulong(2**64 - 1),
        "int": -(2**31),
        "long": -(2**63),
        "double": 1e300,
        "string": "ü" * 200,
        "symbol": symbol("sym"),
        "binary": b"\x00" * 300,
        "timestamp": timestamp(1_700_000_000_123),
        "uuid": uuid.UUID(int=2**127),
    }
    # A body of null is no body to proton, and no message to the standard.
    bodies = {name: value for name, value in values.items() if value is not None}
    publish(hub, Message(body="x", properties=values), *(Message(body=value) for value in bodies.values()))
    received = read(hub, 1 + len(bodies), credit=100)
    equal(received[0].properties, values)
    for message, (name, value) in zip(received[1:], bodies.items()):
        body = bytes(message.body) if isinstance(message.body, memoryview) else message.body
        equal((type(body), body), (type(value), value), name)


@case
def nested_values():
    hub = new_hub(partitions=1)
    value = [1, "two", [3.5, {"k": [None, True]}], Described(symbol("d"), [b"x"])]
    publish(hub, Message(body=value), Message(body={"a": {"b": {"c": [1]}}}))
    first, second = read(hub, 2)
    equal(first.body, value)
    equal(second.body, {"a": {"b": {"c": [1]}}})


@case
def large_messages_in_many_frames():
    hub = new_hub(partitions=1)
    body = bytes(range(256)) * 3_900
    publish(hub, Message(body=body, inferred=True))
    (received,) = read(hub, 1)
    equal(bytes(received.body) == body, True, "the body came back whole")


@case
def selectors():
    hub = new_hub(partitions=1)
    publish(hub, *(Message(body=f"event {number}") for number in range(10)))
    for expression, first in (
        ("amqp.annotation.x-opt-offset > '-1'", 0),
        ("amqp.annotation.x-opt-sequence-number > '3'", 4),
        ("amqp.annotation.x-opt-sequence-number >= '3'", 3),
    ):
        received = read(hub, 10 - first, selector(expression))
        equal([message.body for message in received], [f"event {number}" for number in range(first, 10)], expression)


@case
def credit_is_honoured():
    hub = new_hub(partitions=1)
    publish(hub, *(Message(body=number) for number in range(20)))
    connection = connect()
    receiver = connection.create_receiver(address(hub), credit=0)
    receiver.flow(3)
    for number in range(3):
        equal(receiver.receive(timeout=PATIENCE).body, number)
    equal(receiver.link.credit, 0)
    # No event goes out without credit: a drained round trip on the same connection would bring it.
    connection.create_sender(hub, name="another").send(Message(body="round trip"))
    equal(len(receiver.fetcher.incoming), 0)
    receiver.flow(2)
    equal([receiver.receive(timeout=PATIENCE).body for _ in range(2)], [3, 4])
    connection.close()


@case
def settled_sends_arrive():
    hub = new_hub(partitions=1)
    connection = connect()
    sender = connection.create_sender(hub, options=AtMostOnce())
    sender.send(Message(body="settled"))
    connection.create_sender(hub, name="answered").send(Message(body="answered"))
    connection.close()
    equal(sorted(message.body for message in read(hub, 2)), ["answered", "settled"])


@case
def what_is_refused_says_why():
    hub = new_hub(partitions=1)
    connection = connect()
    raises(LinkDetached, connection.create_sender, "no-such-hub", says="amqp:not-found")
    raises(LinkDetached, connection.create_receiver, address(hub, "9"))
    raises(LinkDetached, connection.create_receiver, address(hub), options=selector("nonsense = 'x'"))
    sender = connection.create_sender(hub)
    raises((SendException, LinkDetached), sender.send, Message(body=b"x" * 1_200_000))
    # The connection survives all of it.
    connection.create_sender(hub, name="last").send(Message(body="fine"))
    connection.close()
    equal(read(hub, 1)[0].body, "fine")


if __name__ == "__main__":
    main()
