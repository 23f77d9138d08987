"""The members of a mixed group: processors of three kinds, each a process of its own, and what their logs say."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from harness import ENDPOINT

HERE = Path(__file__).parent


class Member:
    """A running processor. Its log only grows, and a line that a kill cut short doesn't count."""

    def __init__(self, kind, name, group, folder):
        self.kind, self.name = kind, name
        self.log = folder / f"{name}.ndjson"
        self._offset, self._events, self._held = 0, [], set()
        self._said = (folder / f"{name}.txt").open("w")
        self._process = subprocess.Popen(
            self._command(group, folder), stdin=subprocess.DEVNULL, stdout=self._said, stderr=subprocess.STDOUT
        )

    def _command(self, group, folder):
        arguments = [group.hub, group.container, str(self.log), str(group.expiry)]
        return {
            "python": lambda: [sys.executable, str(HERE / "member.py"), *arguments],
            "js": lambda: ["node", str(HERE.parent / "js" / "member.mjs"), *arguments],
            "weir": lambda: [os.environ["WEIR_COMMAND"], "run", str(self._configure(group, folder))],
        }[self.kind]()

    def _configure(self, group, folder):
        file = folder / f"{self.name}.toml"
        file.write_text(f"""
            [namespace]
            fully-qualified-namespace = "{group.host}"
            endpoint = "amqp://{ENDPOINT}"
            credential = "none"
            [checkpoints]
            container = "{os.environ['WEIR_BLOBS']}/{group.container}"
            expiry = "{group.expiry} s"
            [host]
            owner = "weir"
            cache = "{folder / 'cache'}"
            [[processor]]
            name = "identity"
            module = "{os.environ['WEIR_GUESTS']}/identity.wasm"
            event-hub = "{group.hub}"
            checkpoint = {{ interval = "500 ms" }}
            outputs.default = {{ file = "{self.log}" }}
            dead-letter = {{ file = "{folder / (self.name + '.rejected')}" }}
            """)
        return file

    def events(self):
        """`(partition, sequence number)` of every event, in the order in which they were processed."""
        self._read()
        return self._events

    def held(self):
        """The partitions that an SDK's processor says it has."""
        self._read()
        return self._held

    def _read(self):
        """Takes in what the log has got since the last time, up to its last whole line."""
        if not self.log.exists():
            return
        with self.log.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        self._offset += len(new)
        for line in map(json.loads, new.splitlines()):
            if "owns" in line:
                (self._held.add if line["owns"] else self._held.discard)(line["partition"])
            elif self.kind == "weir":
                # An output's id is `hub/partition/sequence number/n`.
                _, partition, sequence, _ = line["id"].split("/")
                self._events.append((partition, int(sequence)))
            else:
                self._events.append((line["partition"], line["sequence"]))

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def must_run(self):
        assert self._process.poll() is None, f"{self.name} has ended by itself:\n{self.said()}"

    def said(self):
        return Path(self._said.name).read_text()[-2000:]
