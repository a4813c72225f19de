"""What the server remembers of each device, and the candidates it makes of that. Plain data: it goes into the journal.

A device that is slow at night is remembered as such: durations are kept for each quarter of the day.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from foa.errors import BadInput
from foa.values.ids import AgentId

PARTS_OF_DAY = 4
_KEEP = 0.7  #: weight of what was known, against what was just seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One client as a selection rule sees it."""

    id: AgentId
    samples: int = 1  #: training records, capped by what its VCV says
    seconds: float = 1.0  #: expected duration of one round, training and transfer
    joules: float = 0.0  #: expected energy of one round
    loss: float | None = None  #: last known mean loss of the global model on its data; None: never trained
    accuracy: float | None = None  #: last known accuracy of the global model on its data, 0 to 1
    rounds: int = 0  #: how often it took part
    last_round: int = 0  #: when it last took part; 0: never
    discounted_loss: float = 0.0  #: Σ γ^age · loss over its rounds
    discounted_rounds: float = 0.0  #: Σ γ^age over its rounds
    energy_debt: float = 0.0  #: joules spent over its share so far (OCEAN's virtual queue)
    waiting: float = 0.0  #: turns it is owed (fairness queue)
    width: float = 1.0  #: widest share of the model it can train, 0 to 1
    group: str = ""  #: that it says it is of; the owner's bounds say which ones mean anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Everything remembered of one client."""

    samples: int = 1
    seconds: float | None = None  #: smoothed duration of a round
    by_part_of_day: tuple[float | None, ...] = (None,) * PARTS_OF_DAY  #: the same, by quarter of the day from midnight
    joules: float = 0.0
    loss: float | None = None
    accuracy: float | None = None
    rounds: int = 0
    last_round: int = 0
    refusals: int = 0
    losses: int = 0  #: rounds it did not come back from
    discounted_loss: float = 0.0
    discounted_rounds: float = 0.0
    energy_debt: float = 0.0
    waiting: float = 0.0
    width: float = 1.0
    group: str = ""
    quarantined_until: int = 0  #: round up to which its updates are screened out


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one client did in one round."""

    client: AgentId
    kind: str  #: trained · refused · lost
    seconds: float = 0.0
    joules: float = 0.0
    loss: float | None = None  #: of the model it was given, before training
    accuracy: float | None = None
    hour: int = 12  #: at the client when it began, 0 to 23


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The server's memory. `after` gives the next one; nothing is changed in place."""

    round: int = 0  #: rounds that are over
    devices: Mapping[AgentId, Device] = field(default_factory=dict[AgentId, Device])
    utilities: tuple[float, ...] = ()  #: Σ loss·√samples of each round, newest last, at most 100 (Oort's pacer reads it)

    def know(self, client: AgentId, *, samples: int, width: float = 1.0, group: str = "") -> "Memory":
        """The memory with what a client's VCV says of it."""
        device = replace(self.devices.get(client, Device()), samples=max(1, samples), width=width, group=group)
        return replace(self, devices={**self.devices, client: device})

    def after(
        self,
        outcomes: Iterable[Outcome],
        *,
        present: Sequence[AgentId],
        k: int,
        discount: float = 0.7,
        joules_allowed: float = 0.0,
    ) -> "Memory":
        """The memory after one more round.

        Args:
            outcomes: what the chosen clients did.
            present: everybody who could have been chosen; each is owed k / len(present) of a turn.
            k: clients chosen.
            discount: γ of the bandit's discounted sums.
            joules_allowed: energy one client may spend in a round on average (OCEAN).
        """
        number, devices = self.round + 1, dict(self.devices)
        share = k / max(1, len(present))
        for client in present:
            device = devices.get(client, Device())
            devices[client] = replace(
                device,
                waiting=min(10.0, device.waiting + share),
                energy_debt=max(0.0, device.energy_debt - joules_allowed),
                discounted_loss=device.discounted_loss * discount,
                discounted_rounds=device.discounted_rounds * discount,
            )
        utility = 0.0
        for outcome in outcomes:
            device = _seen(devices.get(outcome.client, Device()), outcome, number)
            devices[outcome.client] = device
            if outcome.kind == "trained" and outcome.loss is not None:
                utility += outcome.loss * device.samples**0.5
        return Memory(round=number, devices=devices, utilities=(*self.utilities, utility)[-100:])

    def candidate(self, client: AgentId, *, hour: int = 12) -> Candidate:
        """What a selection rule may know of this client at this hour of its day."""
        device = self.devices.get(client, Device())
        now = device.by_part_of_day[hour * PARTS_OF_DAY // 24]
        expected = now if now is not None else device.seconds
        return Candidate(
            id=client,
            samples=device.samples,
            seconds=1.0 if expected is None else expected,
            joules=device.joules,
            loss=device.loss,
            accuracy=device.accuracy,
            rounds=device.rounds,
            last_round=device.last_round,
            discounted_loss=device.discounted_loss,
            discounted_rounds=device.discounted_rounds,
            energy_debt=device.energy_debt,
            waiting=device.waiting,
            width=device.width,
            group=device.group,
        )

    def quarantine(self, client: AgentId, *, rounds: int) -> "Memory":
        """The memory with this client's updates screened out for some rounds."""
        device = replace(self.devices.get(client, Device()), quarantined_until=self.round + rounds)
        return replace(self, devices={**self.devices, client: device})

    def is_quarantined(self, client: AgentId) -> bool:
        """Whether its next update is to be screened out."""
        device = self.devices.get(client)
        return device is not None and device.quarantined_until > self.round

    def encode(self) -> bytes:
        """Bytes for the journal."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(payload: bytes) -> "Memory":
        """The memory that was saved.

        Raises:
            BadInput: the bytes are no memory.
        """
        try:
            return msgspec.json.decode(payload, type=Memory)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise BadInput(f"the saved memory of devices cannot be read: {error}") from error


def _seen(device: Device, outcome: Outcome, number: int) -> Device:
    if outcome.kind == "refused":
        # it was asked: its turn is used up, or who never can would be asked for ever
        return replace(device, refusals=device.refusals + 1, waiting=0.0)
    if outcome.kind == "lost":
        return replace(device, losses=device.losses + 1, waiting=0.0)
    part = outcome.hour * PARTS_OF_DAY // 24
    parts = list(device.by_part_of_day)
    parts[part] = _smooth(parts[part], outcome.seconds)
    return replace(
        device,
        seconds=_smooth(device.seconds, outcome.seconds),
        by_part_of_day=tuple(parts),
        joules=_smooth(device.joules or None, outcome.joules),
        loss=device.loss if outcome.loss is None else outcome.loss,
        accuracy=device.accuracy if outcome.accuracy is None else outcome.accuracy,
        rounds=device.rounds + 1,
        last_round=number,
        discounted_loss=device.discounted_loss + (outcome.loss or 0.0),
        discounted_rounds=device.discounted_rounds + 1.0,
        energy_debt=device.energy_debt + outcome.joules,
        waiting=max(0.0, device.waiting - 1.0),
    )


def _smooth(known: float | None, seen: float) -> float:
    return seen if known is None else _KEEP * known + (1 - _KEEP) * seen
