"""A message to oneself: what a broker had retained for a new subscription comes before it.

    subscribe to what is wanted and to one's own echo ─► publish the echo ─► what is retained ─► the echo

MQTT does not say which retained message is the last.
"""

import secrets

from foa.values.publication import Filter, Publication
from foa.values.topics import Topics


class Echo:
    """One such message; no other is taken for it."""

    def __init__(self, topics: Topics, name: str) -> None:
        """Make it for the session of this name."""
        self.publication = Publication(topic=topics.echo(name), payload=secrets.token_bytes(8))
        self.filter = Filter(topic_filter=self.publication.topic)

    def is_heard(self, publication: Publication) -> bool:
        """Tell whether this is it."""
        return (publication.topic, publication.payload) == (self.publication.topic, self.publication.payload)
