"""Who may read a partition, and who takes it from whom."""

from azure.eventhub.exceptions import EventHubError
from clients import bodies, consumer, numbered, send
from harness import Reader, case, equal, new_hub


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
