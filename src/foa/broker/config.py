"""What a broker is told: where it listens, who may do what, where it keeps its data, how much it holds."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from foa.errors import BadInput

MEBIBYTE = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLimits:
    """Bounds of one broker. Nothing a client does makes it hold more."""

    connections: int = 10_000  #: at once; one more is told 0x97
    packet_bytes: int = 8 * MEBIBYTE  #: largest packet taken; told to clients as Maximum Packet Size
    receive_maximum: int = 1_024  #: QoS 2 messages of a client that are not released; told to it as Receive Maximum
    topic_alias_maximum: int = 64  #: topic aliases a client may set on a connection
    subscriptions: int = 100_000  #: a session's
    session_expiry_seconds: int = 0xFFFFFFFF  #: longest a session outlives its connection; 0xFFFFFFFF: for ever
    keep_alive_seconds: int = (
        65_535  #: longest keep alive; a client that asks for more, or none, is given this; 65 535: as asked
    )
    connect_seconds: float = 10.0  #: from a connection's start to its CONNECT
    session_queue_bytes: int = 64 * MEBIBYTE  #: messages waiting for one session, 256 bytes added for each
    session_inflight_bytes: int = 16 * MEBIBYTE  #: messages sent to one session and not acknowledged
    queue_bytes: int = 512 * MEBIBYTE  #: messages waiting for all sessions
    retained_bytes: int = 512 * MEBIBYTE  #: all retained messages
    write_bytes: int = (
        MEBIBYTE  #: what one connection may have unsent; then QoS 0 is dropped, QoS 1 and 2 wait, reading stops
    )
    sessions: int = 200_000  #: sessions, connected or not
    routes: int = 20_000  #: topic names whose subscribers are remembered
    statistics_seconds: float = 10.0  #: between updates of `$SYS`; 0: none


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """Settings of one broker.

    Raises:
        BadInput: an open listener without passwords, or TLS half configured.
    """

    host: str = "127.0.0.1"  #: address of every listener
    port: int | None = 1883  #: MQTT over TCP; 0: any free one; None: none
    tls_port: int | None = None  #: MQTT over TLS; needs `certfile` and `keyfile`
    certfile: Path | None = None  #: PEM, with the chain
    keyfile: Path | None = None  #: PEM, without a passphrase
    ws_port: int | None = None  #: MQTT over WebSocket (subprotocol `mqtt`)
    ws_origins: frozenset[str] = (
        frozenset()
    )  #: web origins whose pages may connect (`https://example.org`); empty: no web page may
    passwords: Path | None = None  #: Mosquitto password file; with it nobody is anonymous
    acl: Path | None = None  #: Mosquitto ACL file; with it nothing is allowed that it does not allow
    data_dir: Path | None = None  #: where sessions, queues and retained messages are kept; None: in memory
    limits: BrokerLimits = field(default_factory=BrokerLimits)

    def __post_init__(self) -> None:
        if self.passwords is None and not loopback(self.host):
            raise BadInput(
                f"the broker would listen on {self.host} without passwords: "
                "give it a password file (made by mosquitto_passwd), or listen on 127.0.0.1"
            )
        if self.tls_port is not None and (self.certfile is None or self.keyfile is None):
            raise BadInput("a TLS port needs both a certificate file and a key file")
        if self.port is None and self.tls_port is None and self.ws_port is None:
            raise BadInput("the broker has no port to listen on")


def loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
