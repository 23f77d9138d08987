"""Two processors in Python, one in JavaScript and one `weir` share a consumer group through a blob container.

They settle, evenly, and rest. Whoever is killed is taken over, each going on right behind the checkpoint that the dead one left.
Events are published all the while, and in the end each was processed.
"""

import collections
import re
import shutil
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

from azure.core.exceptions import AzureError
from azure.eventhub import EventData, EventHubProducerClient
from azure.eventhub.extensions.checkpointstoreblob import BlobCheckpointStore
from blobs import BLOBS
from group_members import Member
from harness import ENDPOINT, at_end, case, connection_string, equal, main, new_hub, wait_for

PARTITIONS = [str(number) for number in range(12)]
FULL = ["python", "python", "js", "weir"]
# Seconds after which a silent owner is taken over. Cycles are about a second.
EXPIRY = 8
# Renewals of every ownership that a settled group must come through without a move.
REST = 4

Look = collections.namedtuple("Look", "owners checkpoints")
Move = collections.namedtuple("Move", "partition before after checkpoint")


class Group:
    """The group, its container and whoever is in it."""

    def __init__(self):
        self.hub, self.container, self.expiry = new_hub(partitions=len(PARTITIONS)), f"mixed-{uuid.uuid4()}", EXPIRY
        self.host = ENDPOINT.rsplit(":", 1)[0]
        self.prefix = f"{self.host}/{self.hub}/$default/"
        self.blobs = BlobCheckpointStore.from_connection_string(BLOBS, self.container)._container_client
        self.blobs.create_container()
        self.folder = Path(tempfile.mkdtemp(prefix="weir-mixed-"))
        self.members, self.dead = [], []
        # What the watcher has seen: moves, and by partition the renewals since the last one.
        self.moves, self.renewals, self.look = [], collections.Counter(), Look({}, {})
        self.published = collections.Counter()
        self._publishing = True
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._publish, self._watch)]
        for thread in self._threads:
            thread.start()

    def have(self, kinds):
        """Kills whoever is too many, starts whoever is missing, and waits until the group has settled."""
        there, wanted = collections.Counter(member.kind for member in self.members), collections.Counter(kinds)
        for kind in (there - wanted).elements():
            self.kill(kind)
        for kind in (wanted - there).elements():
            name = f"{kind}-{len(self.members) + len(self.dead)}"
            self.members.append(Member(kind, name, self, self.folder))
        self.settle()

    def kill(self, kind):
        victim = next(member for member in self.members if member.kind == kind)
        victim.kill()
        self.members.remove(victim)
        self.dead.append(victim)
        return victim

    def owners(self):
        """By owner id, who it is: an SDK's processor makes up its id, but says which partitions it has."""
        by_owner = collections.defaultdict(set)
        for partition, (owner, _) in self.look.owners.items():
            by_owner[owner].add(partition)
        held = {frozenset(member.held()): member for member in self.members if member.kind != "weir"}
        weir = next((member for member in self.members if member.kind == "weir"), None)
        return {owner: weir if owner == "weir" else self.who_has(its, held, by_owner) for owner, its in by_owner.items()}, by_owner

    def who_has(self, its, held, by_owner):
        """Who says that it has just these partitions. One in JavaScript may say more: it reads on what a `weir` has taken from it, until
        somebody displaces it with an owner level, which a `weir` can't yet. It also moves the checkpoint then, so nothing is done twice."""
        exactly = held.get(frozenset(its))
        return exactly or next(
            (
                member
                for says, member in held.items()
                if member.kind == "js" and its < says and says - its <= by_owner.get("weir", set())
            ),
            None,
        )

    def is_settled(self):
        for member in self.members:
            member.must_run()
        names, by_owner = self.owners()
        least, most = len(PARTITIONS) // len(self.members), -(-len(PARTITIONS) // len(self.members))
        return (
            sum(len(its) for its in by_owner.values()) == len(PARTITIONS)
            and {member.name for member in names.values() if member} == {member.name for member in self.members}
            and len(by_owner) == len(self.members)
            and all(least <= len(its) <= most for its in by_owner.values())
            and all(self.renewals[partition] for partition in PARTITIONS)
        )

    def settle(self):
        try:
            wait_for(self.is_settled, f"the group to settle: {[member.name for member in self.members]}")
        except AssertionError as error:
            raise AssertionError(f"{error}; owners: {dict(self.owners()[1])}; moves: {self.moves[-20:]}") from error

    def processed(self, kind=None):
        """How often each event was processed, by whoever did it or by members of one kind."""
        members = [member for member in self.members + self.dead if kind in (None, member.kind)]
        return collections.Counter(event for member in members for event in member.events())

    def close(self, failed):
        """Ends the members. What they said and logged is of use only after a failure."""
        for member in self.members:
            member.kill()
        if failed:
            print(f"what the members said and logged is in {self.folder}", flush=True)
        else:
            shutil.rmtree(self.folder)

    def stop_publishing(self):
        self._publishing = False
        self._threads[0].join()

    def _publish(self):
        with EventHubProducerClient.from_connection_string(connection_string(self.hub)) as client:
            while self._publishing:
                for partition in PARTITIONS:
                    client.send_event(EventData(b"event"), partition_id=partition)
                    self.published[partition] += 1
                # A steady trickle, so that every takeover has something to go on with.
                time.sleep(0.5)

    def _watch(self):
        while True:
            try:
                look = self._list()
                before, self.look = self.look, look
            except AzureError as error:
                print(f"the container could not be listed: {error}", file=sys.stderr, flush=True)
                continue
            for partition, (owner, etag) in self.look.owners.items():
                old, old_etag = before.owners.get(partition, ("", None))
                if owner != old:
                    self.renewals[partition] = 0
                    self.moves.append(Move(partition, old, owner, before.checkpoints.get(partition)))
                elif etag != old_etag:
                    self.renewals[partition] += 1
            time.sleep(0.1)

    def _list(self):
        look = Look({}, {})
        for blob in self.blobs.list_blobs(name_starts_with=self.prefix, include=["metadata"], read_timeout=5, retry_total=0):
            kind, _, partition = blob.name[len(self.prefix) :].partition("/")
            if kind == "ownership":
                look.owners[partition] = blob.metadata["ownerid"], blob.etag
            elif kind == "checkpoint":
                look.checkpoints[partition] = int(blob.metadata["sequencenumber"])
        return look


_group = None


def group(kinds=None):
    """The one group of the suite, with these members, whatever the case before has killed; or as that has left it."""
    global _group
    if not _group:
        _group = Group()
        at_end(_group.close)
        kinds = kinds or FULL
    if kinds:
        _group.have(kinds)
    return _group


@case
def a_mixed_group_settles_evenly_and_rests():
    it = group(FULL)
    moves, goal = len(it.moves), {partition: it.renewals[partition] + REST for partition in PARTITIONS}

    def rested():
        return all(it.renewals[partition] >= goal[partition] for partition in PARTITIONS)

    wait_for(lambda: rested() or len(it.moves) > moves, "every ownership to be renewed some times")
    equal(it.moves[moves:], [], "moves in a settled group")


def is_taken_over(kind, takers):
    """Kills a member. The others take its partitions, and go on right behind its checkpoints."""
    it = group(FULL)
    names, by_owner = it.owners()
    victim = it.kill(kind)
    dead = next(owner for owner, member in names.items() if member is victim)
    lost, moves, marks = by_owner[dead], len(it.moves), {member.name: len(member.events()) for member in it.members}
    it.settle()

    def first(partition):
        """Who first processed an event of the partition after the kill, and which."""
        for member in it.members:
            for event in member.events()[marks[member.name] :]:
                if event[0] == partition:
                    yield member.kind, event[1]
                    break

    went_on = {move.partition: move for move in it.moves[moves:] if move.before == dead}
    equal(set(went_on), lost, "what moved from the dead one")
    kinds = set()
    for partition, move in went_on.items():
        firsts = wait_for(lambda: list(first(partition)), f"an event of partition {partition} after the takeover")
        kind, sequence = min(firsts, key=lambda first: first[1])
        expected = 0 if move.checkpoint is None else move.checkpoint + 1
        equal(sequence, expected, f"partition {partition}: the first event that {kind} processed after {victim.name}")
        kinds.add(kind)
    equal(kinds, takers, f"who went on after {victim.name}")


@case
def a_killed_python_member_is_taken_over():
    is_taken_over("python", {"python", "js", "weir"})


@case
def a_killed_js_member_is_taken_over():
    is_taken_over("js", {"python", "weir"})


@case
def a_killed_weir_is_taken_over():
    is_taken_over("weir", {"python", "js"})


@case
def a_weir_that_comes_later_gets_its_share():
    # From Python only. The SDK for JavaScript reads on until somebody with an owner level attaches, which a `weir` can't yet.
    group(["python", "python"])
    group(["python", "python", "weir"])


@case
def the_blobs_lie_and_look_as_the_layout_says():
    it = group()
    blobs = {blob.name: blob.metadata for blob in it.blobs.list_blobs(include=["metadata"])}
    for name, metadata in blobs.items():
        equal(name, name.lower(), "lower case")
        kind, _, rest = name.removeprefix(it.prefix).partition("/")
        if kind == "ownership":
            assert rest in PARTITIONS and metadata.get("ownerid"), f"{name}: {metadata}"
        elif kind == "checkpoint":
            numbers = [metadata.get("sequencenumber", ""), metadata.get("offset", "")]
            assert rest in PARTITIONS and all(re.fullmatch("[0-9]+", number) for number in numbers), f"{name}: {metadata}"
        else:
            equal(name, f"{it.prefix}weir/hosts/weir", "the only other blob")
    expected = 2 * len(PARTITIONS) + 1
    equal(len(blobs), expected, f"blobs: {sorted(blobs)}")


@case
def every_event_was_processed():
    it = group()
    it.stop_publishing()
    all_events = {(partition, number) for partition in PARTITIONS for number in range(it.published[partition])}
    wait_for(lambda: it.processed().keys() >= all_events, "the last events")
    processed = it.processed()
    equal(set(processed) - all_events, set(), "events that nobody published")
    # What the SDKs' processors repeat among themselves is theirs: they write checkpoints without a condition, late ones too. A `weir`
    # does an event once, and once more for each time that it lost the partition while the checkpoint was not yet over the event.
    lost_at = collections.defaultdict(list)
    for move in it.moves:
        if move.before == "weir":
            lost_at[move.partition].append(-1 if move.checkpoint is None else move.checkpoint)

    def may_come(partition, number):
        return 1 + sum(number > checkpoint for checkpoint in lost_at[partition])

    by_weir = it.processed("weir")
    often = {event: times for event, times in by_weir.items() if times > may_come(*event)}
    equal(often, {}, "events that weir processed again without losing their partition ahead of its checkpoint")
    assert by_weir, "no event was processed by weir"
    repeats = processed.total() - len(processed)
    print(f"{len(processed)} events, {repeats} repeats, {len(it.moves)} moves", flush=True)


if __name__ == "__main__":
    main()
