"""Both MQTT adapters on what the contract does not show: refusals, TLS, WebSocket, takeover, crashes."""

import asyncio
import base64
import datetime
import gc
import hashlib
import ipaddress
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from foa.broker import Broker, BrokerConfig
from foa.errors import BrokerUnreachable, PublishRefused
from foa.ports import Transport
from foa.transport.address import parse_address
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.transport.mqtt import MqttTransport
from foa.transport.paho import PahoTransport
from foa.values.publication import Filter, Publication
from tests.brokers import free_port, open_link, start_embedded, start_mosquitto

Make = Callable[..., AbstractAsyncContextManager[Transport]]
SECONDS = 10.0


@pytest.fixture(params=[MqttTransport, PahoTransport], ids=["mqttium", "paho"])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param


def passwords(folder: Path, **users: str) -> Path:
    """A Mosquitto password file ($6$: SHA512 of password and salt)."""
    file = folder / "passwords"
    salt = b"twelve bytes"
    lines = [
        f"{user}:$6${base64.b64encode(salt).decode()}$"
        + base64.b64encode(hashlib.sha512(password.encode() + salt).digest()).decode()
        for user, password in users.items()
    ]
    file.write_text("\n".join(lines) + "\n")
    file.chmod(0o600)
    return file


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


async def echo(transport: Transport, payload: bytes = b"1") -> bytes:
    """Publish to oneself."""
    async with asyncio.timeout(SECONDS), transport.subscribe(Filter(topic_filter="echo")) as inbox:
        await transport.publish(Publication(topic="echo", payload=payload))
        delivery = await anext(inbox)
        await delivery.acknowledge()
        return delivery.publication.payload


async def test_no_broker_is_told_at_once_with_what_to_do(make: Make) -> None:
    port = free_port()
    with pytest.raises(BrokerUnreachable, match=rf"no MQTT broker at mqtt://127.0.0.1:{port}.*foa broker --port {port}"):
        async with asyncio.timeout(SECONDS), make(f"mqtt://127.0.0.1:{port}", client_id="a"):
            pass


async def test_a_host_that_is_none_is_told_at_once(make: Make) -> None:
    with pytest.raises(BrokerUnreachable, match=r"no MQTT broker at mqtt://nowhere\.invalid:1883"):
        async with asyncio.timeout(SECONDS), make("mqtt://nowhere.invalid", client_id="a"):
            pass


async def test_whatever_does_not_speak_mqtt_is_not_waited_for_for_ever(make: Make) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    hung_up = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(BrokerUnreachable, match="does not answer"):
            async with asyncio.timeout(SECONDS), make(f"mqtt://127.0.0.1:{port}", client_id="a", connect_seconds=0.2):
                pass
        async with asyncio.timeout(SECONDS):
            await hung_up.wait()


@pytest.mark.parametrize("credentials", ["", "ann:wrong@", "bob:secret@"])
async def test_wrong_credentials_are_told_at_once(make: Make, tmp_path: Path, credentials: str) -> None:
    config = BrokerConfig(port=0, passwords=passwords(tmp_path, ann="secret"))
    async with Broker(config) as broker:
        with pytest.raises(BrokerUnreachable, match=r"refused 'a'.*(user name or password|not authorised).*USER:PASSWORD"):
            async with asyncio.timeout(SECONDS), make(f"mqtt://{credentials}127.0.0.1:{broker.port}", client_id="a"):
                pass
        async with make(f"mqtt://ann:secret@127.0.0.1:{broker.port}", client_id="a") as transport:
            assert await echo(transport) == b"1"


async def test_mosquitto_refuses_wrong_credentials_alike(make: Make, tmp_path: Path) -> None:
    settings = ["allow_anonymous false", f"password_file {passwords(tmp_path, ann='secret')}"]
    async with start_mosquitto(tmp_path, settings=settings) as broker:
        with pytest.raises(BrokerUnreachable, match="USER:PASSWORD"):
            async with asyncio.timeout(SECONDS), make(f"mqtt://ann:no@127.0.0.1:{broker.port}", client_id="a"):
                pass
        async with make(f"mqtt://ann:secret@127.0.0.1:{broker.port}", client_id="a") as transport:
            assert await echo(transport) == b"1"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves a refused TLS socket open
async def test_tls_checks_the_certificate(make: Make, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    config = BrokerConfig(port=None, tls_port=0, certfile=cert, keyfile=key)
    async with Broker(config) as broker:
        address = f"mqtts://127.0.0.1:{broker.tls_port}"
        with pytest.raises(BrokerUnreachable, match=r"(?i)certificate"):
            async with asyncio.timeout(SECONDS), make(address, client_id="a"):
                pass
        gc.collect()
        async with make(parse_address(address, ca=cert), client_id="a") as transport:
            assert await echo(transport, b"x" * 300_000) == b"x" * 300_000


async def test_a_websocket_carries_it_too(make: Make) -> None:
    config = BrokerConfig(port=None, ws_port=0)
    async with Broker(config) as broker, make(f"ws://127.0.0.1:{broker.ws_port}", client_id="a") as transport:
        assert await echo(transport, b"x" * 300_000) == b"x" * 300_000


async def test_whoever_is_pushed_out_by_the_same_client_id_is_told(make: Make) -> None:
    async with start_embedded() as broker:
        address = f"mqtt://127.0.0.1:{broker.port}"
        async with (
            make(address, client_id="a") as old,
            old.subscribe(Filter(topic_filter="x")) as inbox,
            make(address, client_id="a") as new,
        ):
            with pytest.raises(BrokerUnreachable, match="took over"):
                async with asyncio.timeout(SECONDS):
                    await anext(inbox)
            with pytest.raises(BrokerUnreachable, match="took over"):
                await old.publish(Publication(topic="x", payload=b""))
            with pytest.raises(BrokerUnreachable, match="took over"):
                await old.connected()
            with pytest.raises(BrokerUnreachable, match="took over"):
                async with old.subscribe(Filter(topic_filter="y")):
                    pass
            assert await echo(new) == b"1"


async def test_a_crash_inside_the_block_speaks_the_will(make: Make) -> None:
    will = Publication(topic="gone", payload=b"will", message_expiry_interval=60)
    async with start_embedded() as broker:
        address = f"mqtt://127.0.0.1:{broker.port}"
        async with make(address, client_id="a") as a, a.subscribe(Filter(topic_filter="gone")) as inbox:
            with pytest.raises(KeyError):
                async with make(address, client_id="b", will=will):
                    raise KeyError
            async with asyncio.timeout(SECONDS):
                assert (await anext(inbox)).publication == will


async def test_the_broker_may_refuse_a_topic(make: Make, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite open/#\n")
    async with (
        Broker(BrokerConfig(port=0, acl=acl)) as broker,
        make(f"mqtt://127.0.0.1:{broker.port}", client_id="a") as transport,
    ):
        await transport.publish(Publication(topic="open/x", payload=b""))
        with pytest.raises(PublishRefused, match=r"closed/x.*not authorised"):
            await transport.publish(Publication(topic="closed/x", payload=b""))


async def test_a_refused_filter_does_not_hurt_the_others(make: Make, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite open/#\n")
    async with (
        Broker(BrokerConfig(port=0, acl=acl)) as broker,
        make(f"mqtt://127.0.0.1:{broker.port}", client_id="a") as transport,
        transport.subscribe(Filter(topic_filter="open/1")) as inbox,
    ):
        with pytest.raises(BrokerUnreachable, match="closed"):
            async with transport.subscribe(Filter(topic_filter="open/2"), Filter(topic_filter="closed/#")):
                pass
        await transport.publish(Publication(topic="open/1", payload=b"1"))
        async with asyncio.timeout(SECONDS):
            assert (await anext(inbox)).publication.payload == b"1"


async def test_a_link_that_breaks_again_and_again_is_repaired_each_time(make: Make) -> None:
    async with start_embedded() as broker, open_link("127.0.0.1", broker.port) as link:
        address = f"mqtt://127.0.0.1:{link.port}"
        async with (
            make(address, client_id="a", retry_seconds=0.05) as a,
            a.subscribe(Filter(topic_filter="x")) as inbox,
        ):
            for number in range(10):
                await link.cut()
                await link.restore()
                async with asyncio.timeout(SECONDS):
                    await a.publish(Publication(topic="x", payload=b"%d" % number))
                    while (delivery := await anext(inbox)).publication.payload != b"%d" % number:
                        await delivery.acknowledge()
                    await delivery.acknowledge()


async def test_nothing_of_an_adapter_runs_on_after_its_block(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    async with start_embedded() as broker:
        with caplog.at_level(logging.WARNING):
            for cut in (False, True):
                async with (
                    open_link("127.0.0.1", broker.port) as link,
                    make(f"mqtt://127.0.0.1:{link.port}", client_id="a") as transport,
                ):
                    assert await echo(transport) == b"1"
                    if cut:
                        await link.cut()
        names = {task.get_name() for task in asyncio.all_tasks()}
    owned = ("link[a]", "subscriptions[a]", "unclaimed[a]", "mqttium-reader", "mqttium-keepalive", "mqttium-reconnect")
    assert names.isdisjoint(owned)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_a_client_id_is_needed(make: Make) -> None:
    with pytest.raises(ValueError, match="client id"):
        make("mqtt://localhost", client_id="")
    with pytest.raises(ValueError, match="keep_alive"):
        make("mqtt://localhost", client_id="a", keep_alive=0)
    with pytest.raises(PublishRefused):
        make("mqtt://localhost", client_id="a", will=Publication(topic="$SYS/x", payload=b""))


async def test_the_memory_transport_needs_no_broker() -> None:
    async with MemoryTransport(MemoryHub(), client_id="a") as transport:
        assert await echo(transport) == b"1"
