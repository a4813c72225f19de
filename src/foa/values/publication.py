"""An application message as MQTT v5 carries it, and how it is asked for."""

from dataclasses import dataclass
from typing import Literal

QoS = Literal[0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A PUBLISH packet's content. Field names are MQTT v5's own (section 3.3)."""

    topic: str
    payload: bytes
    qos: QoS = 1
    retain: bool = False
    message_expiry_interval: int | None = None  #: seconds, 3.3.2.3.3; None: never
    response_topic: str | None = None  #: 3.3.2.3.5
    correlation_data: bytes | None = None  #: 3.3.2.3.6
    content_type: str | None = None  #: 3.3.2.3.9
    user_properties: tuple[tuple[str, str], ...] = ()  #: 3.3.2.3.7; order is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A topic filter with its subscription options (3.8.3.1). `$share/{group}/{filter}` is allowed."""

    topic_filter: str
    qos: QoS = 1
    no_local: bool = False  #: do not hear one's own publications
