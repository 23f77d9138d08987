"""The client gets over what breaks, and nothing is lost."""

import socket
import struct

from azure.eventhub import EventData
from azure.eventhub.exceptions import AuthenticationError
from clients import bodies, consumer, numbered, producer, read, send
from harness import ENDPOINT, Reader, case, control, equal, fault, new_hub, raises


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
