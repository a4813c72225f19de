"""Every message on the wire, and the one codec.

JSON by default, so that a person with `mosquitto_sub` can read it. Decoding is strict and bounded: a size limit before
parsing, types and lengths while parsing. Whatever fails becomes `BadMessage` with a sentence.

    Agent-0 ── Propose │ DraftRequest │ TrainRequest │ Join │ Stop ──► foa/agents/{id}/tasks
    Agent-0 ◄── Reply(Proposed │ Drafted │ Trained │ Joined │ Refused) ── foa/orchestrators/{id}/replies
    Agent-0 ◄── TrainProgress, any number before the Reply ── the same topic and Correlation Data, marked `foa-part`
    members ◄── Begin │ RoundPost │ TaskComplete ──► foa/clusters/{id}/channel
"""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import msgspec

from foa.errors import BadMessage
from foa.values.budget import Amount, Budget, Spend
from foa.values.draft import Claim, Draft, Probability
from foa.values.ids import AgentId, ClusterId, JobId, SubtaskId, WireId
from foa.values.plan import Proposal, SubtaskText
from foa.values.task import Label, Submission, Task

WIRE_VERSION = 1
MAX_PAYLOAD_BYTES = 1_000_000  #: the portable subset's limit

_Reason = Annotated[str, msgspec.Meta(max_length=2_000)]
_Ids = Annotated[tuple[WireId, ...], msgspec.Meta(max_length=64)]
_Figures = Annotated[Mapping[Annotated[str, msgspec.Meta(min_length=1, max_length=64)], float], msgspec.Meta(max_length=64)]
_Credit = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]


class WireMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What every message has: the version of the wire format."""

    v: Annotated[int, msgspec.Meta(ge=1, le=1)] = WIRE_VERSION


class Submit(WireMessage, frozen=True, kw_only=True, tag="submit", tag_field="do"):
    """A client's job, on `foa/orchestrator/jobs`."""

    job: WireId
    submission: Submission


class Cancel(WireMessage, frozen=True, kw_only=True, tag="cancel", tag_field="do"):
    """A wish to stop a job, on `foa/orchestrator/cancel/{job}`."""

    job: WireId
    reason: _Reason = ""


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """The report of a predecessor, as the drafter of the next subtask sees it."""

    subtask: WireId
    text: SubtaskText
    answer: Annotated[str, msgspec.Meta(max_length=20_000)]
    claims: Annotated[tuple[Claim, ...], msgspec.Meta(max_length=64)] = ()


class Propose(WireMessage, frozen=True, kw_only=True, tag="propose", tag_field="do"):
    """Split this task (Alg. 1)."""

    job: WireId
    task: Task
    subtasks_min: Annotated[int, msgspec.Meta(ge=1, le=16)]
    subtasks_max: Annotated[int, msgspec.Meta(ge=1, le=16)]
    budget: Budget


class SubtaskRequest(WireMessage, frozen=True, kw_only=True):
    """What every request about one subtask says."""

    job: WireId
    subtask: WireId
    attempt: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    text: SubtaskText
    task: Task
    inputs: Annotated[tuple[Input, ...], msgspec.Meta(max_length=64)] = ()
    budget: Budget


class DraftRequest(SubtaskRequest, frozen=True, kw_only=True, tag="draft", tag_field="do"):
    """Answer this subtask (Alg. 2)."""


class TrainRequest(SubtaskRequest, frozen=True, kw_only=True, tag="train", tag_field="do"):
    """Train a model for this subtask, without moving data; the policies that bind its sites are the task's."""


class TrainProgress(WireMessage, frozen=True, kw_only=True, tag="train_progress", tag_field="do"):
    """A node of one round of a training began or ended. Who asks again hears of all of them again."""

    agent: WireId
    job: WireId
    subtask: WireId
    round: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    node: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,16}$(?!\n)")]  #: profile, select, negotiate, train, …
    state: Literal["began", "ended"]
    said: Annotated[str, msgspec.Meta(max_length=500)] = ""  #: what it gave, in words
    value: msgspec.Raw = msgspec.Raw(b"null")  #: what it gave, any JSON; the receiver bounds it
    credits: Annotated[Mapping[WireId, _Credit], msgspec.Meta(max_length=1_000)] = {}  #: site → what it brought; < 0: harm
    spend: Spend = Spend()  #: what this node cost


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One member of a cluster and the weight of its voice (its reputation)."""

    agent: WireId
    weight: Probability = 0.5


class Join(WireMessage, frozen=True, kw_only=True, tag="join", tag_field="do"):
    """Subscribe to the cluster's channel, answer Joined, and refine there when Begin comes (Alg. 4)."""

    job: WireId
    subtask: WireId
    cluster: WireId
    text: SubtaskText
    members: Annotated[tuple[Member, ...], msgspec.Meta(min_length=2, max_length=16)]
    rounds: Annotated[int, msgspec.Meta(ge=1, le=16)]  #: k
    round_seconds: Amount  #: deadline of one round
    quorum: Probability  #: share of the voices that must vote stop
    gain: Probability  #: stop when the answers moved less than this on average
    policies: Annotated[tuple[Label, ...], msgspec.Meta(max_length=32)] = ()
    draft: Draft  #: the member's own draft, so that a restarted agent can go on
    budget: Budget


class Stop(WireMessage, frozen=True, kw_only=True, tag="stop", tag_field="do"):
    """The job is over or cancelled: drop its work."""

    job: WireId


Request = Propose | DraftRequest | TrainRequest | Join | Stop


class Proposed(msgspec.Struct, frozen=True, kw_only=True, tag="proposed", tag_field="is"):
    """Answer to Propose."""

    proposal: Proposal
    fallback: Annotated[str, msgspec.Meta(max_length=500)] = ""  #: not empty: a rule answered for the model, and why


class Drafted(msgspec.Struct, frozen=True, kw_only=True, tag="drafted", tag_field="is"):
    """Answer to DraftRequest."""

    draft: Draft


class Trained(msgspec.Struct, frozen=True, kw_only=True, tag="trained", tag_field="is"):
    """Answer to TrainRequest: a report in words, its figures, and the name of the run."""

    draft: Draft
    run: WireId
    rounds: Annotated[int, msgspec.Meta(ge=0, le=100_000)]
    figures: _Figures = {}


class SoFar(msgspec.Struct, frozen=True, kw_only=True):
    """What a member has said in a cluster whose rounds have begun: an Agent-0 that was away takes it up from there."""

    round: Annotated[int, msgspec.Meta(ge=0, le=16)]  #: the last it posted in
    draft: Draft  #: as it stands
    spend: Spend = Spend()  #: of all its rounds up to this one
    over: bool = False  #: its rounds have ended: it posts nothing more
    complete: "TaskComplete | None" = None  #: it spoke for the cluster, so


class Joined(msgspec.Struct, frozen=True, kw_only=True, tag="joined", tag_field="is"):
    """Answer to Join: subscribed, waiting for Begin; or, asked again, where it stands."""

    cluster: WireId
    so_far: SoFar | None = None  #: None: Begin has not come yet


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused", tag_field="is"):
    """The agent will not, and why."""

    kind: Literal["spec", "policy", "budget", "load", "model", "bad_request"]
    reason: _Reason


class Reply(WireMessage, frozen=True, kw_only=True):
    """An agent's reply, on the request's Response Topic with its Correlation Data."""

    agent: WireId
    body: Proposed | Drafted | Trained | Joined | Refused
    spend: Spend = Spend()


class Begin(WireMessage, frozen=True, kw_only=True, tag="begin", tag_field="do"):
    """Agent-0 opens the rounds: who is there. Members that are not named have no voice."""

    cluster: WireId
    members: _Ids


class RoundPost(WireMessage, frozen=True, kw_only=True, tag="post", tag_field="do"):
    """One member's voice in one round. Only what changed is sent: `draft` None means "as in my last post"."""

    cluster: WireId
    agent: WireId
    round: Annotated[int, msgspec.Meta(ge=1, le=16)]
    draft: Draft | None
    critique: _Reason = ""
    stop: bool = False  #: its vote
    moved: Probability = 1.0  #: distance of this answer from its last, 0 to 1
    spend: Spend = Spend()  #: of this round


class TaskComplete(WireMessage, frozen=True, kw_only=True, tag="task_complete", tag_field="do"):
    """The cluster's end, sent by the member whose draft represents it."""

    cluster: WireId
    agent: WireId
    rounds: Annotated[int, msgspec.Meta(ge=0, le=16)]
    consensus: bool
    draft: Draft
    confidence: Probability
    heard: _Ids  #: members whose posts this rests on


ChannelMessage = Begin | RoundPost | TaskComplete

M = TypeVar("M")

_encoder = msgspec.json.Encoder()
_decoders: dict[object, msgspec.json.Decoder[object]] = {}


def encode(message: object) -> bytes:
    """Turn a wire message into its bytes (JSON, UTF-8)."""
    return _encoder.encode(message)


def decode(payload: bytes, kind: type[M]) -> M:
    """Turn bytes off the wire into a message of this kind.

    Args:
        payload: at most `MAX_PAYLOAD_BYTES`, checked before parsing.
        kind: a message type or a union of tagged ones (`Request`, `ChannelMessage`).

    Raises:
        BadMessage: too long, not JSON, another version, an unknown tag, a field out of its bounds.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise BadMessage(f"a message of {len(payload):,} bytes is over the limit of {MAX_PAYLOAD_BYTES:,}")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return decoder.decode(payload)  # type: ignore[return-value]
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as error:
        raise BadMessage(f"not a usable message: {error}") from error


__all__ = [
    "MAX_PAYLOAD_BYTES",
    "WIRE_VERSION",
    "AgentId",
    "Begin",
    "Cancel",
    "ChannelMessage",
    "ClusterId",
    "DraftRequest",
    "Drafted",
    "Input",
    "JobId",
    "Join",
    "Joined",
    "Member",
    "Propose",
    "Proposed",
    "Refused",
    "Reply",
    "Request",
    "RoundPost",
    "SoFar",
    "Stop",
    "Submit",
    "SubtaskId",
    "TaskComplete",
    "TrainProgress",
    "TrainRequest",
    "Trained",
    "decode",
    "encode",
]
