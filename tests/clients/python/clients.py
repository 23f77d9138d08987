"""The official client, bound to the namespace."""

from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient
from harness import Reader, connection_string, control


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


def receivers(hub):
    """How many receiving links the namespace has on the hub."""
    links = [link for connection in control("GET", "/connections") for link in connection["links"]]
    return sum(1 for link in links if link.get("role") == "receiver" and link.get("hub") == hub)
