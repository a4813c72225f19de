"""What one member of a cluster has heard, round by round, and when that is enough. Pure and bounded.

post ─► accept ─► "" (it counts) │ why it does not: stranger, own, late, duplicate, wrong round, no draft
complete(r) · drafts(r) · votes(r) · verdict(r)
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from foa.messages import RoundPost
from foa.plan.consensus import gain_spent, quorum_reached
from foa.values.draft import Draft
from foa.values.ids import AgentId, ClusterId


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether to stop after a round, and why."""

    stop: bool
    consensus: bool  #: the quorum was reached
    reason: str  #: for the trace


class Rounds:
    """The posts of one cluster as one member hears them; at most one a member and round is kept.

    Args:
        cluster: whose posts these are.
        own: the member that listens.
        members: who has a voice, the listener included.
        weights: their reputations.
        rounds: k.
        quorum: share of the voices, by weight, that must vote stop.
        gain: stop when the answers moved less than this on average.
    """

    def __init__(
        self,
        *,
        cluster: ClusterId,
        own: AgentId,
        members: frozenset[AgentId],
        weights: Mapping[AgentId, float],
        rounds: int,
        quorum: float,
        gain: float,
    ) -> None:
        self.members = members
        self.current = 1
        self.ignored: Counter[str] = Counter()  #: posts that did not count, by reason
        self._cluster = cluster
        self._own = own
        self._weights = weights
        self._k = rounds
        self._quorum = quorum
        self._gain = gain
        self._posts: dict[int, dict[AgentId, RoundPost]] = {number: {} for number in range(1, rounds + 1)}

    def accept(self, post: RoundPost) -> str:
        """Take a post off the channel; gives why it does not count, or nothing."""
        agent = AgentId(post.agent)
        reason = ""
        if post.cluster != self._cluster or agent not in self.members:
            reason = "stranger"
        elif agent == self._own:
            reason = "own"  # the broker sends back what one posts; anything else in one's name is forged
        elif not 1 <= post.round <= self._k:
            reason = "wrong round"
        elif post.round < self.current:
            reason = "late"
        elif agent in self._posts[post.round]:
            reason = "duplicate"
        elif post.draft is None and post.round == 1:
            reason = "no draft"
        if reason:
            self.ignored[reason] += 1
        else:
            self._posts[post.round][agent] = post
        return reason

    def own_post(self, post: RoundPost) -> None:
        """Keep what this member posts itself."""
        self._posts[post.round][self._own] = post

    def complete(self, number: int) -> bool:
        """Whether everyone has posted in this round who is still waited for: whoever was silent in the last one is not."""
        expected = self.members if number == 1 else self._posts[number - 1].keys()
        return expected <= self._posts[number].keys()

    def heard(self, number: int) -> tuple[AgentId, ...]:
        """Who has a voice in this round: posted in it, and its draft is known; sorted."""
        known = self._latest(number)
        return tuple(sorted(agent for agent in self._posts[number] if agent in known))

    def ever_heard(self) -> tuple[AgentId, ...]:
        """Whose drafts are known at all; sorted."""
        return tuple(sorted(self._latest(self._k)))

    def drafts(self, number: int) -> dict[AgentId, Draft]:
        """The drafts of this round's voices, those that did not change from an earlier round."""
        known = self._latest(number)
        return {agent: known[agent] for agent in self.heard(number)}

    def critique(self, number: int, agent: AgentId) -> str:
        """What a member said of the others in this round."""
        post = self._posts[number].get(agent)
        return post.critique if post is not None else ""

    def verdict(self, number: int) -> Verdict:
        """Whether to stop after this round: k, quorum, marginal gain, or nobody left. The silent have no voice.

        Source: arXiv:2509.20175, Alg. 4, with stop rules that hold whatever members do.
        """
        voices = self.heard(number)
        posts = self._posts[number]
        votes = {agent: posts[agent].stop for agent in voices}
        consensus = len(voices) > 1 and number > 1 and quorum_reached(votes, self._weights, quorum=self._quorum)
        if consensus:
            return Verdict(stop=True, consensus=True, reason="quorum")
        if len(voices) < 2:
            return Verdict(stop=True, consensus=False, reason="alone")
        if number >= self._k:
            return Verdict(stop=True, consensus=False, reason="rounds")
        if number > 1 and gain_spent((posts[agent].moved for agent in voices), gain=self._gain):
            return Verdict(stop=True, consensus=False, reason="gain")
        return Verdict(stop=False, consensus=False, reason="")

    def _latest(self, number: int) -> dict[AgentId, Draft]:
        known: dict[AgentId, Draft] = {}
        for earlier in range(1, number + 1):
            known.update({agent: post.draft for agent, post in self._posts[earlier].items() if post.draft is not None})
        return known
