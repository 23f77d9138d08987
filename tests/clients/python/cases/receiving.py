"""Every start position, and what a reader is told."""

import datetime
import threading

from azure.eventhub import EventData
from azure.eventhub.exceptions import AuthenticationError, ConnectError, EventHubError
from clients import bodies, consumer, numbered, producer, read, receivers, send
from harness import Reader, case, equal, new_hub, wait_for


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
    wait_for(
        lambda: datetime.datetime.now(datetime.timezone.utc) - old > datetime.timedelta(milliseconds=20), "the clock"
    )
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
