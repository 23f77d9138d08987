"""What the client's own tests expect from their surroundings, given by the namespace: a pytest plugin."""

import functools
import time

import harness
import pytest
from azure.core.credentials import AccessToken
from azure.eventhub import EventHubProducerClient
from azure.eventhub._configuration import Configuration
from azure.eventhub._pyamqp import ReceiveClient
from azure.eventhub._pyamqp import client as pyamqp
from azure.eventhub._pyamqp.aio import _client_async as pyamqp_async
from azure.eventhub._pyamqp.authentication import SASTokenAuth

PARTITIONS = 2


def pytest_configure(config):
    config.addinivalue_line("markers", "liveTest: talks to a namespace")
    config.addinivalue_line("markers", "no_amqpproxy: nothing here")


def pytest_runtest_logreport(report):
    """One line per case, from the process that collects the results."""
    import os

    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    name = report.nodeid.split("livetest/")[-1].replace(" ", "_")
    if report.failed:
        why = report.longrepr.reprcrash.message if hasattr(report.longrepr, "reprcrash") else report.longrepr
        print(f"\nFAIL {name}: {report.when}: {' '.join(str(why).split())[:300]}", flush=True)
    elif report.skipped:
        print(f"\nFAIL {name}: skipped itself: {report.longrepr}", flush=True)
    elif report.when == "call":
        print(f"\nok {name}", flush=True)


class Credential:
    """A token credential; the namespace takes every token."""

    def get_token(self, *_scopes, **_options):
        return AccessToken("token", int(time.time()) + 3600)


class AsyncCredential:
    """The same, for the asynchronous clients."""

    async def get_token(self, *_scopes, **_options):
        return AccessToken("token", int(time.time()) + 3600)

    async def close(self):
        pass

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass


def credential(is_async=False, **_options):
    return AsyncCredential() if is_async else Credential()


@pytest.fixture(autouse=True)
def without_tls(monkeypatch):
    """Some tests make clients without the options of the fixture below; TLS is the default then."""
    for owner in Configuration, pyamqp.AMQPClient, pyamqp_async.AMQPClientAsync:
        original = owner.__init__

        def plain(self, *args, _original=original, **options):
            _original(self, *args, **{"use_tls": False, **options})

        monkeypatch.setattr(owner, "__init__", plain)


@pytest.fixture
def live_eventhub():
    hub = harness.new_hub(PARTITIONS)
    return {
        "hostname": harness.ENDPOINT,
        "key_name": harness.KEY_NAME,
        "access_key": harness.KEY,
        "namespace": "local",
        "event_hub": hub,
        "consumer_group": "$Default",
        "partition": "0",
        "connection_str": harness.connection_string(hub),
    }


@pytest.fixture
def client_args():
    return {"use_tls": False}


@pytest.fixture
def sleep():
    """Closes the connection instead of waiting four minutes for the service to do it."""
    return False


@pytest.fixture
def uamqp_transport():
    return False


@pytest.fixture
def timeout_factor():
    return 1


@pytest.fixture
def get_credential():
    return credential


@pytest.fixture
def get_credential_async():
    return functools.partial(credential, is_async=True)


@pytest.fixture
def connection_str(live_eventhub):
    return live_eventhub["connection_str"]


@pytest.fixture
def invalid_hostname(live_eventhub):
    parts = {"host": "invalid123.servicebus.windows.net", **live_eventhub}
    return "Endpoint=sb://{host}/;SharedAccessKeyName={key_name};SharedAccessKey={access_key};EntityPath={event_hub}".format(
        **parts
    )


@pytest.fixture
def auth_credentials(live_eventhub):
    return live_eventhub["hostname"], live_eventhub["event_hub"], credential


@pytest.fixture
def auth_credentials_async(live_eventhub, get_credential_async):
    return live_eventhub["hostname"], live_eventhub["event_hub"], get_credential_async


def _receivers(hub):
    receivers = []
    for partition in range(PARTITIONS):
        uri = f"sb://{hub['hostname']}/{hub['event_hub']}"
        source = f"amqps://{hub['hostname']}/{hub['event_hub']}/ConsumerGroups/{hub['consumer_group']}/Partitions/{partition}"
        auth = SASTokenAuth(uri, uri, hub["key_name"], hub["access_key"])
        receiver = ReceiveClient(hub["hostname"], source, auth=auth, timeout=30, link_credit=500, use_tls=False)
        receiver.open()
        receivers.append(receiver)
    return receivers


@pytest.fixture
def connstr_receivers(live_eventhub):
    receivers = _receivers(live_eventhub)
    yield live_eventhub["connection_str"], receivers
    for receiver in receivers:
        receiver.close()


@pytest.fixture
def auth_credential_receivers(auth_credentials, live_eventhub):
    receivers = _receivers(live_eventhub)
    yield *auth_credentials, receivers
    for receiver in receivers:
        receiver.close()


@pytest.fixture
def auth_credential_receivers_async(auth_credentials_async, live_eventhub):
    receivers = _receivers(live_eventhub)
    yield *auth_credentials_async, receivers
    for receiver in receivers:
        receiver.close()


def _producers(hub):
    client = EventHubProducerClient(
        fully_qualified_namespace=hub["hostname"],
        eventhub_name=hub["event_hub"],
        credential=credential(),
        use_tls=False,
    )
    return client, [client._create_producer(partition_id=partition) for partition in client.get_partition_ids()]


@pytest.fixture
def auth_credential_senders(auth_credentials, live_eventhub):
    client, senders = _producers(live_eventhub)
    yield *auth_credentials, senders
    for sender in senders:
        sender.close()
    client.close()


@pytest.fixture
def auth_credential_senders_async(auth_credentials_async, live_eventhub):
    client, senders = _producers(live_eventhub)
    yield *auth_credentials_async, senders
    for sender in senders:
        sender.close()
    client.close()
