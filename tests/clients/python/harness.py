"""What the Python suites share: a namespace that is already running, hubs of their own, and one printed line per case."""

import http.client
import itertools
import json
import os
import sys
import threading
import time
import traceback

ENDPOINT = os.environ["WEIR_ENDPOINT"]
CONTROL = os.environ["WEIR_CONTROL"]
KEY_NAME, KEY = "RootManageSharedAccessKey", "bG9jYWw="
# How long anything may take before a case fails. Nothing waits that long when it works.
PATIENCE = float(os.environ.get("WEIR_PATIENCE", "60"))

_cases = []
_endings = []
_numbers = itertools.count()


def case(function):
    """Registers a case; it passes when the function returns."""
    _cases.append(function)
    return function


def at_end(function):
    """Registers what is to be done when all cases have run; it is told how many have failed."""
    _endings.append(function)


def main():
    """Runs the cases (those named on the command line, or all) and exits."""
    wanted = set(sys.argv[1:])
    failed = 0
    for function in _cases:
        name = function.__name__
        if wanted and name not in wanted:
            continue
        try:
            function()
            print(f"ok {name}", flush=True)
        except BaseException as error:  # a case that leaves by any door has failed
            failed += 1
            why = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"FAIL {name}: {why}", flush=True)
            traceback.print_exc()
        finally:
            control("DELETE", "/faults")
    for function in _endings:
        function(failed)
    # Clients of a failed case may have left threads behind.
    sys.stdout.flush()
    os._exit(1 if failed else 0)


def control(method, path, body=None):
    """Calls the namespace's control API."""
    host, port = CONTROL.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    payload = None if body is None else json.dumps(body)
    connection.request(method, path, payload, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read().decode()
    assert response.status < 300, f"{method} {path}: {response.status} {text}"
    return json.loads(text) if text else None


def new_hub(partitions=2, groups=None):
    """Makes a hub that no other case knows."""
    name = f"hub-{os.getpid()}-{next(_numbers)}"
    control("PUT", f"/hubs/{name}", {"partitions": partitions, **({"groups": groups} if groups else {})})
    return name


def fault(action, at="now", **rest):
    """Injects a fault; `target`, `skip`, `times`, `for-ms`, `delay-ms` as in the namespace's README."""
    return control("POST", "/faults", {"action": action, "at": at, **rest})


def connection_string(hub, host=ENDPOINT):
    return (
        f"Endpoint=sb://{host};SharedAccessKeyName={KEY_NAME};SharedAccessKey={KEY};"
        f"UseDevelopmentEmulator=true;EntityPath={hub}"
    )


def wait_for(condition, what):
    """Waits until the condition holds and returns what it gave."""
    deadline = time.monotonic() + PATIENCE
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.02)


def equal(actual, expected, what=""):
    assert actual == expected, f"{what}: expected {expected!r}, got {actual!r}"


def raises(kinds, function, *args, says=None, **kwargs):
    """Checks that the call raises one of the kinds, and returns the error."""
    try:
        function(*args, **kwargs)
    except kinds as error:
        assert says is None or says in str(error), f"the error does not say {says!r}: {error}"
        return error
    raise AssertionError(f"expected {kinds}, but nothing was raised")


class Reader:
    """A consumer on a thread of its own that collects what it is handed."""

    def __init__(self, client, **options):
        self.client, self.events, self.errors = client, [], []
        self._changed = threading.Condition()
        options.setdefault("starting_position", "-1")
        self._thread = threading.Thread(
            target=client.receive,
            kwargs={"on_event": self._on_event, "on_error": self._on_error, **options},
            daemon=True,
        )
        self._thread.start()

    def _on_event(self, context, event):
        if event is not None:
            with self._changed:
                self.events.append((context, event))
                self._changed.notify_all()

    def _on_error(self, _context, error):
        with self._changed:
            self.errors.append(error)
            self._changed.notify_all()

    def take(self, count):
        """The first `count` events, once they are there."""
        with self._changed:
            there = self._changed.wait_for(lambda: len(self.events) >= count, PATIENCE)
        assert there, f"{len(self.events)} events instead of {count} after {PATIENCE:.0f} s; errors: {self.errors}"
        return [event for _, event in self.events[:count]]

    def error(self):
        """The first error, once there is one."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.errors, PATIENCE), f"no error after {PATIENCE:.0f} s"
        return self.errors[0]

    def close(self):
        self.client.close()
        self._thread.join(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
