"""Where a broker is, as a user writes it."""

from pathlib import Path

import pytest

from foa.errors import BadInput
from foa.transport.address import parse_address


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "path"),
    [
        ("mqtt://localhost", "mqtt", "localhost", 1883, "/mqtt"),
        ("mqtt://localhost/", "mqtt", "localhost", 1883, "/mqtt"),
        (" mqtts://broker.example ", "mqtts", "broker.example", 8883, "/mqtt"),
        ("ws://10.0.0.1:9001", "ws", "10.0.0.1", 9001, "/mqtt"),
        ("wss://broker.example/deep/mqtt", "wss", "broker.example", 443, "/deep/mqtt"),
        ("mqtt://[::1]:1884", "mqtt", "::1", 1884, "/mqtt"),
    ],
)
def test_each_scheme_has_its_port(text: str, scheme: str, host: str, port: int, path: str) -> None:
    address = parse_address(text)
    assert (address.scheme, address.host, address.port, address.path) == (scheme, host, port, path)


def test_user_and_password_are_percent_decoded_and_never_shown() -> None:
    address = parse_address("mqtt://al%40ice:p%3Aw@localhost")
    assert (address.username, address.password) == ("al@ice", "p:w")
    assert "p:w" not in repr(address)
    assert str(address) == "mqtt://localhost:1883"
    assert str(parse_address("ws://a:b@[::1]:80/x")) == "ws://[::1]:80/x"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:1883",
        "http://localhost",
        "mqtt://",
        "mqtt://host:99999",
        "mqtt://host:port",
        "mqtt://host/path",
        "mqtt://host?x=1",
        "mqtt://host#x",
        "mqtt://[::1",
    ],
)
def test_anything_else_is_refused_with_the_accepted_form(text: str) -> None:
    with pytest.raises(BadInput, match=r"mqtt://\[USER:PASSWORD@\]HOST"):
        parse_address(text)


def test_a_refusal_does_not_show_the_password() -> None:
    with pytest.raises(BadInput) as refused:
        parse_address("http://me:secret@host")
    assert "secret" not in str(refused.value)


def test_tls_files_need_a_tls_scheme_and_a_key_its_certificate() -> None:
    with pytest.raises(BadInput, match="mqtts"):
        parse_address("mqtt://host", ca=Path("ca.pem"))
    with pytest.raises(BadInput, match="both"):
        parse_address("mqtts://host", key=Path("key.pem"))


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    with pytest.raises(BadInput, match=r"ca\.pem"):
        parse_address("mqtts://host", ca=missing).tls()
    missing.write_text("no certificate")
    with pytest.raises(BadInput, match=r"ca\.pem"):
        parse_address("mqtts://host", ca=missing).tls()


def test_only_tls_schemes_have_a_context() -> None:
    assert parse_address("mqtt://host").tls() is None
    assert parse_address("wss://host").tls() is not None
