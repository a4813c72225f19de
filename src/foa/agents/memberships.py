"""The clusters that the agents of one host refine in: each membership is played once, however often it is asked for.

Join ─► rounds that have ended? ─► where this member stood
     ─► rounds that are played?  ─► where it stands
     ─► subscribe ─► Joined ─► rounds ─► kept, for who asks again
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from logging import getLogger

import msgspec

from foa.agents.channel import Channels
from foa.agents.member import Member
from foa.agents.seat import Seat
from foa.errors import FabricError
from foa.messages import Join, SoFar
from foa.ports import Replies, Transport
from foa.values.ids import AgentId, ClusterId
from foa.values.topics import Topics

log = getLogger(__name__)

MAX_MEMBERSHIPS = 1_024  #: at once, counted by member

#: Answers a request to join with what the member has said so far; None: its rounds begin.
TellJoined = Callable[[SoFar | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Playing:
    """A member at its rounds."""

    member: Member
    ready: asyncio.Event = field(default_factory=asyncio.Event)  #: subscribed, or failed to


class Memberships:
    """Plays the members of one host."""

    def __init__(self, transport: Transport, topics: Topics, replies: Replies, group: asyncio.TaskGroup) -> None:
        """Make it.

        Args:
            transport: the host's connection.
            topics: topic names.
            replies: where a member keeps what it said when its rounds have ended.
            group: owns the readers of the channels.
        """
        self._transport = transport
        self._channels = Channels(transport, topics, group)
        self._topics = topics
        self._replies = replies
        self._members: dict[tuple[AgentId, ClusterId], _Playing] = {}

    @property
    def full(self) -> bool:
        """Whether no more fit."""
        return len(self._members) >= MAX_MEMBERSHIPS

    def close(self) -> None:
        """Hear no channel any more."""
        self._channels.close()

    async def play(self, seat: Seat, join: Join, joined: TellJoined) -> bool:
        """Subscribe, say that it has joined, and play the rounds; who asks again is told where this member stands.

        Returns:
            Whether rounds were played to their end.

        Raises:
            StoreFailed: what was kept cannot be read.
        """
        agent, cluster = seat.profile.agent_id, ClusterId(join.cluster)
        if (agent, cluster) not in self._members:
            kept = await self._replies.find(_rounds_key(agent, cluster))
            if kept is not None:
                await joined(msgspec.json.decode(kept, type=SoFar))
                return False
        if (playing := self._members.get((agent, cluster))) is not None:
            await playing.ready.wait()
            await joined(playing.member.so_far)
            return False
        member = Member(agent, join, seat.brain, transport=self._transport, topic=self._topics.channel(cluster))
        playing = self._members[agent, cluster] = _Playing(member)
        try:
            await self._play(playing, agent, join, joined)
        except FabricError as error:
            log.warning("agent %s lost its voice in %s: %s", agent, cluster, error)
            return False
        finally:
            playing.ready.set()
            del self._members[agent, cluster]
        return True

    async def _play(self, playing: _Playing, agent: AgentId, join: Join, joined: TellJoined) -> None:
        cluster, member = ClusterId(join.cluster), playing.member
        async with self._channels.listen(cluster, member.hear):
            playing.ready.set()
            await joined(None)
            outcome = await member.run(begin_seconds=join.round_seconds * (join.rounds + 1))
        if member.so_far is not None and outcome.rounds:
            await self._replies.keep(_rounds_key(agent, cluster), msgspec.json.encode(member.so_far))
        log.debug("agent %s left %s after %d rounds: %s", agent, cluster, outcome.rounds, outcome.reason)


def _rounds_key(agent: AgentId, cluster: ClusterId) -> str:
    """Under which a member keeps what it said in a cluster, when its rounds have ended."""
    return f"{agent}/{cluster}/rounds"
