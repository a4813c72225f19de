"""Where a broker is, as a user writes it: `mqtt://user:password@host:port` and its relatives."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from foa.errors import BadInput

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
ACCEPTED = "mqtt://[USER:PASSWORD@]HOST[:PORT], mqtts://…, ws://HOST[:PORT]/PATH or wss://…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A broker's address, its credentials and its TLS files."""

    scheme: str  #: mqtt · mqtts · ws · wss
    host: str
    port: int
    path: str = "/mqtt"  #: of a WebSocket
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None  #: PEM file of the authority that signed the broker's certificate; None: the system's
    cert: Path | None = None  #: PEM file of this client's certificate
    key: Path | None = None  #: PEM file of its private key

    @property
    def encrypted(self) -> bool:
        """Whether TLS carries it."""
        return self.scheme in ("mqtts", "wss")

    @property
    def websocket(self) -> bool:
        """Whether MQTT runs inside a WebSocket."""
        return self.scheme in ("ws", "wss")

    @property
    def url(self) -> str:
        """Without user and password, for a WebSocket handshake and for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}" + (self.path if self.websocket else "")

    def tls(self) -> ssl.SSLContext | None:
        """Make the TLS context; None where the scheme has no TLS.

        Raises:
            BadInput: a certificate or key file cannot be used.
        """
        if not self.encrypted:
            return None
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(file) for file in (self.ca, self.cert, self.key) if file is not None)
            raise BadInput(f"the TLS files for {self.url} cannot be used ({files}): {error}") from error
        return context

    def __str__(self) -> str:
        return self.url


def parse_address(text: str, *, ca: Path | None = None, cert: Path | None = None, key: Path | None = None) -> Address:
    """Read a broker's address.

    Args:
        text: as `ACCEPTED` says; user and password percent-encoded where they hold `:`, `/` or `@`. The port is the
            scheme's own when left out: 1883, 8883, 80, 443. The path of a WebSocket is `/mqtt` when left out.
        ca, cert, key: PEM files, only for mqtts and wss.

    Raises:
        BadInput: it has another form.
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise BadInput(f"broker address {text[:200]!r} is not usable ({error}): write {ACCEPTED}") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise BadInput(f"broker address {_shown(text)!r} is not usable: write {ACCEPTED}")
    websocket = parts.scheme in ("ws", "wss")
    if parts.query or parts.fragment or (parts.path.strip("/") and not websocket):
        raise BadInput(f"broker address {_shown(text)!r} has something after the port: write {ACCEPTED}")
    if (ca or cert or key) and parts.scheme not in ("mqtts", "wss"):
        raise BadInput(f"broker address {_shown(text)!r} has no TLS, but TLS files were given: use mqtts:// or wss://")
    if key is not None and cert is None:
        raise BadInput("a TLS key was given without its certificate: give both")
    return Address(
        scheme=parts.scheme,
        host=parts.hostname,
        port=_PORTS[parts.scheme] if port is None else port,
        path=(parts.path or "/mqtt") if websocket else "/mqtt",
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        ca=ca,
        cert=cert,
        key=key,
    )


def _shown(text: str) -> str:
    """Shorten, and leave out what may be a password."""
    head, at, tail = text[:200].rpartition("@")
    return f"{head.split('://')[0]}://…@{tail}" if at else text[:200]
