"""What the namespace says of hubs and partitions."""

import datetime

from azure.eventhub.exceptions import ConnectError, EventHubError
from clients import bodies, consumer, numbered, producer, read, send
from harness import case, control, equal, new_hub, raises


@case
def properties_of_a_hub():
    hub = new_hub(partitions=4)
    with producer(hub) as client:
        properties = client.get_eventhub_properties()
        equal(properties["eventhub_name"], hub)
        equal(properties["partition_ids"], ["0", "1", "2", "3"])
        assert abs(datetime.datetime.now(datetime.timezone.utc) - properties["created_at"]) < datetime.timedelta(
            minutes=5
        )
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
        equal(
            (full["is_empty"], full["beginning_sequence_number"], full["last_enqueued_sequence_number"]), (False, 0, 2)
        )
        last = read(hub, 3, "1")[-1]
        equal(full["last_enqueued_offset"], last.offset)
        equal(full["last_enqueued_time_utc"], last.enqueued_time)
        equal(client.get_partition_properties("0")["is_empty"], True)


@case
def properties_of_an_unknown_hub():
    with consumer("no-such-hub", retry_total=0) as client:
        raises(ConnectError, client.get_eventhub_properties)


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
