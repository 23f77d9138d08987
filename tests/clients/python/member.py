"""A processor of the official Python SDK, as a process of its own: `member.py HUB CONTAINER LOG EXPIRY`.

It appends a JSON line to its log when it gets or loses a partition, and one for each event, before it moves the checkpoint over
it.
"""

import json
import os
import sys

from azure.eventhub import EventHubConsumerClient, TransportType
from azure.eventhub.extensions.checkpointstoreblob import BlobCheckpointStore
from blobs import BLOBS
from harness import ENDPOINT, connection_string


def main(hub, container, log, expiry):
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(**line):
        os.write(file, (json.dumps(line) + "\n").encode())

    def on_events(context, events):
        for event in events:
            write(partition=context.partition_id, sequence=event.sequence_number)
        context.update_checkpoint(events[-1])

    client = EventHubConsumerClient.from_connection_string(
        # Blobs are filed under the name in the connection string: without a port, as the SDK for JavaScript does it.
        connection_string(hub, ENDPOINT.rsplit(":", 1)[0]),
        "$default",
        custom_endpoint_address=f"sb://{ENDPOINT}",
        transport_type=TransportType.Amqp,
        checkpoint_store=BlobCheckpointStore.from_connection_string(BLOBS, container),
        load_balancing_interval=1,
        partition_ownership_expiration_interval=float(expiry),
    )
    client.receive_batch(
        on_event_batch=on_events,
        max_batch_size=100,
        on_partition_initialize=lambda context: write(partition=context.partition_id, owns=True),
        on_partition_close=lambda context, _reason: write(partition=context.partition_id, owns=False),
        on_error=lambda _context, error: print(error, file=sys.stderr, flush=True),
        starting_position="-1",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
