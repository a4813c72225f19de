"""Every error the fabric raises, drawn.

    FabricError                       root; carries an exit code for the command line
     ├─ BadInput                   2  a file, setting or task is not usable: mend it and call again
     │   ├─ BadMessage             2  bytes off the wire did not decode or broke a bound
     │   └─ BadCapability          2  a VCV was refused by the registry
     │       ├─ FalseClaim         2  it was signed, and what it signs is not true
     │       └─ NotNow             2  not refused for good: the same card may be taken later
     │           └─ NotEmbedded    2  the embedder did not answer
     ├─ Unroutable                 3  no agent may or can take the task; final until the registry changes
     ├─ PolicyDenied               4  policy or safety forbids it; final
     ├─ BudgetExceeded             5  the budget cannot pay for it; call again with more
     ├─ Unreachable                6  something outside does not answer; trying again may help
     │   ├─ BrokerUnreachable      6
     │   ├─ ModelUnreachable       6
     │   └─ AgentLost              6  an agent left, or did not answer in its time
     ├─ PublishRefused             7  the broker took the message and refused it (PUBACK ≥ 0x80)
     ├─ ModelReplyInvalid          8  a model's reply stayed unusable after its repairs
     ├─ AgentRefused               9  an agent declined, and says why
     ├─ JobCancelled              10  somebody cancelled it
     └─ StoreFailed               11  the journal could not read or save

Misuse of the library is `ValueError` or `TypeError`, not one of these.
"""

from collections.abc import Mapping, Sequence

from foa.values.budget import Spend
from foa.values.ids import AgentId, JobId

_AWAY = "is away since its connection was lost; it is asked again as soon as it is back"


class FabricError(Exception):
    """Root of the tree. `exit_code` is what `foa` exits with; docs/reference/exit-codes.md has a page for each."""

    exit_code = 1


class BadInput(FabricError):
    """Something the user wrote is not usable. The message names it and says what to do."""

    exit_code = 2


class BadMessage(BadInput):
    """Bytes from a peer did not decode, are of another version, or break a bound. Trying again does not help."""


class BadCapability(BadInput):
    """The registry refused a VCV. Final until its owner publishes a better one."""


class FalseClaim(BadCapability):
    """A VCV with a good signature says what is not so: its key lies, and is quarantined when it goes on."""

    def __init__(self, message: str, *, key: str = "") -> None:
        self.key = key  #: the public key that signed it
        super().__init__(message)


class NotNow(BadCapability):
    """A VCV is refused as things stand: a rate, a clock, a full registry, a quarantine. The same one may be taken later."""


class NotEmbedded(NotNow):
    """The embedder did not answer, so a VCV could not be compared and indexed. It is tried again, where it was kept."""


class Unroutable(FabricError):
    """No agent may take the task. Final until the registry changes."""

    exit_code = 3

    def __init__(self, what: str, refusals: Mapping[AgentId, str], *, away: Sequence[AgentId] = (), why: str = "") -> None:
        self.what = what
        self.why = why  #: that none of them can do it, with what to do; empty: each was refused for its own reason
        self.away = tuple(away)  #: some that could take it, were their connection not lost; named in `refusals` too
        self.refusals = dict.fromkeys(self.away, _AWAY) | dict(refusals)
        if not self.refusals:
            hint = "no agent is known: start some with `foa agent FILE…`"
        else:
            shown = "; ".join(f"{agent}: {reason}" for agent, reason in list(self.refusals.items())[:5])
            more = f" and {len(self.refusals) - 5} more" if len(self.refusals) > 5 else ""
            hint = why or f"{shown}{more}"
        super().__init__(f"no agent fits {what}: {hint}")


class PolicyDenied(FabricError):
    """Policy or the safety gate forbids it. Final: no fallback relaxes policy."""

    exit_code = 4


class BudgetExceeded(FabricError):
    """What is left of the budget does not pay for the next step. Call again with more."""

    exit_code = 5


class Unreachable(FabricError):
    """Something outside this process does not answer. Trying again may help."""

    exit_code = 6


class BrokerUnreachable(Unreachable):
    """No MQTT broker at that address, or it refused the connection."""


class ModelUnreachable(Unreachable):
    """The model's endpoint does not answer, or its weights cannot be fetched."""


class AgentLost(Unreachable):
    """An agent left, or was silent until its deadline. Another may do its work."""

    def __init__(self, agent: AgentId, reason: str, *, asked: bool = True, left: bool = False) -> None:
        self.agent = agent
        self.reason = reason
        self.left = left  #: it went away: its last will arrived; it may come back
        self.asked = asked  #: whether the request reached it: who was never asked failed nobody
        super().__init__(f"agent {agent}: {reason}")


class PublishRefused(FabricError):
    """The broker refused a publication (MQTT v5, 3.4.2.1). Trying the same again does not help."""

    exit_code = 7


class ModelReplyInvalid(FabricError):
    """A model's reply was still unusable after its repairs; the rule fallback takes over. What it cost is still paid."""

    exit_code = 8

    def __init__(self, why: str, *, raw: str = "", spend: Spend | None = None) -> None:
        self.raw = raw[:2_000]
        self.spend = spend or Spend()
        super().__init__(f"the model's reply stayed unusable: {why}")


class AgentRefused(FabricError):
    """An agent declined the request: its Spec, policy, budget or load says no."""

    exit_code = 9

    def __init__(self, agent: AgentId, reason: str, *, spend: Spend | None = None) -> None:
        self.agent = agent
        self.reason = reason
        self.spend = spend or Spend()  #: what it is paid all the same
        super().__init__(f"agent {agent} declined: {reason}")


class JobCancelled(FabricError):
    """Somebody cancelled the job."""

    exit_code = 10

    def __init__(self, job: JobId) -> None:
        self.job = job
        super().__init__(f"job {job} was cancelled")


class StoreFailed(FabricError):
    """The journal or a ledger could not be read or saved. Trying again may help (a full disk, a lock)."""

    exit_code = 11
