"""Two official Python consumers share a group: balanced and checkpointed through a blob store, over the namespace."""

import collections
import threading
import uuid

from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient
from azure.eventhub.extensions.checkpointstoreblob import BlobCheckpointStore
from blobs import BLOBS
from harness import case, connection_string, equal, main, new_hub, wait_for

PARTITIONS = 4


class Member:
    """A consumer of the group, on a thread of its own, that checkpoints after every event."""

    def __init__(self, hub, container):
        self.owned, self.seen = set(), collections.Counter()
        self._lock = threading.Lock()
        self.client = EventHubConsumerClient.from_connection_string(
            connection_string(hub),
            "$default",
            checkpoint_store=BlobCheckpointStore.from_connection_string(BLOBS, container),
            load_balancing_interval=1,
            partition_ownership_expiration_interval=10,
        )
        arguments = {
            "on_event": self._on_event,
            "on_partition_initialize": lambda context: self._own(context, True),
            "on_partition_close": lambda context, _reason: self._own(context, False),
            "starting_position": "-1",
        }
        self._thread = threading.Thread(target=self.client.receive, kwargs=arguments, daemon=True)
        self._thread.start()

    def _own(self, context, owns):
        with self._lock:
            (self.owned.add if owns else self.owned.discard)(context.partition_id)

    def _on_event(self, context, event):
        with self._lock:
            self.seen[event.body_as_str()] += 1
        context.update_checkpoint(event)

    def close(self):
        self.client.close()
        self._thread.join(60)


def publish(hub, first, count):
    with EventHubProducerClient.from_connection_string(connection_string(hub)) as client:
        for number in range(first, first + count):
            client.send_event(EventData(f"event {number}"), partition_id=str(number % PARTITIONS))


@case
def two_members_split_the_partitions_and_one_takes_over():
    hub, container = new_hub(partitions=PARTITIONS), f"group-{uuid.uuid4()}"
    BlobCheckpointStore.from_connection_string(BLOBS, container)._container_client.create_container()
    first, second = Member(hub, container), Member(hub, container)

    def split():
        owned = first.owned, second.owned
        return [len(part) for part in owned] == [2, 2] and len(owned[0] | owned[1]) == PARTITIONS

    wait_for(split, "the partitions to be split 2/2")
    publish(hub, 0, 100)
    wait_for(lambda: len(first.seen + second.seen) == 100, "the first 100 events")
    assert first.seen and second.seen, "both members get events"
    first.close()
    wait_for(lambda: len(second.owned) == PARTITIONS, "the second member to own everything")
    publish(hub, 100, 100)
    wait_for(lambda: len(first.seen + second.seen) == 200, "the second 100 events")
    second.close()

    store = BlobCheckpointStore.from_connection_string(BLOBS, container)
    checkpoints = list(store.list_checkpoints(second.client._address.hostname, hub, "$default"))
    equal(sorted(checkpoint["sequence_number"] for checkpoint in checkpoints), [49] * PARTITIONS, "checkpoints")

    # A third one, later, finds nothing left to do before what is new.
    publish(hub, 200, 4)
    third = Member(hub, container)
    wait_for(lambda: len(third.seen) >= 4, "the events after the checkpoints")
    third.close()
    equal(sorted(third.seen), [f"event {number}" for number in range(200, 204)], "only what is new")


if __name__ == "__main__":
    main()
