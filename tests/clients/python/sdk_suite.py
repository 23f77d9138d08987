"""Runs the live tests that azure-eventhub ships in its source archive, unmodified, against the namespace.

Their own fixtures create hubs in an Azure subscription; `sdk_fixtures.py` gives them hubs of the namespace instead. Cases that
don't apply are listed here, each with the reason; everything else must pass.
"""

import os
import subprocess
import sys
from pathlib import Path

# Seconds. The suite takes about 400, of which it sleeps most.
PATIENCE = 1500
SOURCE = Path(os.environ["WEIR_SDK_SOURCE"])
HERE = Path(__file__).parent

FILES = ["negative", "receive", "consumer_client", "reconnect", "properties", "send", "buffered_producer"]

TLS = "the namespace speaks plain AMQP, without TLS and WebSockets"
KEYS = "the namespace takes every key; refused tokens are injected, and tested in conformance.py"
SKIPPED = "its authors skip it for this transport"
NOT_APPLICABLE = {
    "test_send_over_websocket": TLS,
    "test_receive_over_websocket": TLS,
    "test_send_with_create_event_batch_with_app_prop_sync": TLS,
    "test_send_with_create_event_batch_async": TLS,
    "test_invalid_proxy_server": TLS,
    "test_send_batch_with_invalid_key": KEYS,
    "test_send_with_invalid_key_async": KEYS,
    "test_send_with_invalid_policy_async": KEYS,
    "test_get_properties_with_auth_error": KEYS,
    "test_client_invalid_credential": KEYS,
    "test_send_and_receive_large_body_size": SKIPPED,
    "test_long_wait_small_buffer": SKIPPED,
    "test_receive_storage_checkpoint": "changes the hub through Azure's management API; shared_group.py covers the rest",
}


def main():
    tests = [
        SOURCE / "tests/livetest" / folder / f"test_{name}{suffix}.py"
        for folder, suffix in (("synctests", ""), ("asynctests", "_async"))
        for name in FILES
    ]
    for name, reason in NOT_APPLICABLE.items():
        print(f"not applicable: {name}: {reason}")
    sys.stdout.flush()
    # Names match the synchronous and the asynchronous variant.
    excluded = " or ".join(NOT_APPLICABLE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(SOURCE / "tests")])}
    # The tests mostly sleep, so more of them than processors run at once.
    arguments = [
        "-p",
        "sdk_fixtures",
        "--noconftest",
        "-n",
        "16",
        "-k",
        f"not ({excluded})",
        "-q",
        "--no-header",
        "-o",
        "asyncio_mode=auto",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        *sys.argv[1:],
    ]
    command = [sys.executable, "-m", "pytest", *arguments, *map(str, tests)]
    try:
        return subprocess.call(command, env=environment, cwd=SOURCE, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        print(f"FAIL python-sdk: not finished after {PATIENCE} s; the cases named above had ended by then")
        return 1


if __name__ == "__main__":
    sys.exit(main())
