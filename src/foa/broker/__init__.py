"""An MQTT v5 broker, embedded: one node, standard library only. docs/reference/broker.md says what it guarantees.

broker ─► link ─► hub ─► router, session, shared, retained ─► message
   │       └─► packets, properties, codec, topics
   ├─► websocket, tls, auth, acl, statistics
   └─► outflow ─► store
"""

from foa.broker.broker import Broker
from foa.broker.config import BrokerConfig, BrokerLimits
from foa.broker.serve import serve

__all__ = ["Broker", "BrokerConfig", "BrokerLimits", "serve"]
