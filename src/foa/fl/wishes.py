"""Sites that ask for a training: when there is one, and who pays for it. Pure: no clock, no wire.

    wish ─► hear: whose, how often, for what ─► book, one wish a site ─► due: enough sites, rested, paid for ─► start
                                                                           └► not yet, with the reason

One site cannot start a run alone, keep the book full or be heard more often than the rules say; a newer wish of a site takes
the place of its older one.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import msgspec

from foa.values.ids import AgentId, WireId

DAY_SECONDS = 86_400.0
SKEW_SECONDS = 300.0  #: how far ahead a site's clock may be
MAX_WISHES = 10_000

_Usd = Annotated[float, msgspec.Meta(ge=0.0, le=1e6)]
_Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=3.2e7)]


@dataclass(frozen=True, slots=True, kw_only=True)
class WishRules:
    """`[wishes]` in FL.toml: what the owner of a project lets its sites ask for."""

    sites: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 2  #: that want it, before a run starts
    cool_down_seconds: _Seconds = DAY_SECONDS  #: between the beginnings of two wished runs
    keep_seconds: _Seconds = 7 * DAY_SECONDS  #: how long a wish counts
    a_day: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 4  #: wishes of one site that are heard in 24 hours
    usd: _Usd = 0.0  #: what the owner pays for one run; the askers pay the rest, out of what they pledge


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a site asks for. Its words are for people: nothing is decided by them."""

    id: WireId
    site: WireId
    purpose: Annotated[str, msgspec.Meta(max_length=200)] = "*"
    why: Annotated[str, msgspec.Meta(max_length=500)] = ""
    usd: _Usd = 0.0  #: it pledges at most so much for the run
    at: Annotated[float, msgspec.Meta(ge=0.0, le=1e12)]  #: seconds since the epoch, by its own clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What became of a wish when it was heard."""

    state: Literal["kept", "repeated", "refused"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A run is due."""

    wishes: tuple[Wish, ...]  #: it answers, by site
    owner_usd: float
    shares: Mapping[AgentId, float]  #: US dollars each asker pays at most; together with the owner's, what it may cost


@dataclass(frozen=True, slots=True, kw_only=True)
class NotYet:
    """No run is due, and what is missing."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WishBook:
    """The wishes that count, at most one a site."""

    wishes: Mapping[str, Wish] = field(default_factory=dict[str, Wish])  #: by site
    heard: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])  #: when, in the last day
    newest: Mapping[str, float] = field(
        default_factory=dict[str, float]
    )  #: date of each site's newest wish, answered or not
    began: float | None = None  #: the last wished run

    def hear(self, wish: Wish, *, now: float, purpose: str, rules: WishRules) -> tuple["WishBook", Heard]:
        """Take a wish whose signature was checked.

        Args:
            wish: of a site of the project.
            now: seconds since the epoch.
            purpose: of the project.
            rules: of its owner.
        """
        held, times = self.wishes.get(wish.site), self._times(wish.site, now)
        if held is not None and wish.id == held.id:
            return self, Heard(state="repeated", text="this wish is on the list already")
        if (why := self._fault(wish, held, times, now=now, purpose=purpose, rules=rules)) is not None:
            return self, Heard(state="refused", text=why)
        heard = {site: kept for site in self.heard if (kept := self._times(site, now))} | {wish.site: (*times, now)}
        book = replace(self._fresh(now, rules), heard=heard)
        newest = {**book.newest, wish.site: wish.at}
        book = replace(book, wishes={**book.wishes, wish.site: wish}, newest=newest)
        return book, Heard(
            state="kept", text="your wish took the place of your last one" if held else "your wish is on the list"
        )

    def due(self, *, now: float, cost_usd: float, present: Collection[str], rules: WishRules) -> Start | NotYet:
        """Whether a run starts now.

        Args:
            now: seconds since the epoch.
            cost_usd: what the run may cost at most.
            present: sites that are there: who is away cannot have the model that it asks for.
            rules: of the owner.
        """
        wishes = tuple(wish for site, wish in sorted(self._fresh(now, rules).wishes.items()) if site in present)
        if len(wishes) < rules.sites:
            return NotYet(reason=f"{len(wishes)} of {rules.sites} sites that are here want it")
        if self.began is not None and (rest := self.began + rules.cool_down_seconds - now) > 0:
            return NotYet(reason=f"the last wished run began a while ago; the next may begin in {rest:,.0f} s")
        owner = min(cost_usd, rules.usd)
        pledged, missing = sum(wish.usd for wish in wishes), cost_usd - owner
        if pledged < missing:
            return NotYet(reason=f"it may cost US$ {cost_usd:.2f}: the owner pays {owner:.2f} and {pledged:.2f} are pledged")
        # in proportion to the pledges, so nobody pays more than it said
        part = 0.0 if pledged == 0 else missing / pledged
        return Start(wishes=wishes, owner_usd=owner, shares={AgentId(wish.site): wish.usd * part for wish in wishes})

    def begun(self, start: Start, *, now: float) -> "WishBook":
        """The book when a run began: its wishes are answered, whatever becomes of it."""
        # a newer one that came since then is not answered by it
        return replace(self, wishes={site: w for site, w in self.wishes.items() if w not in start.wishes}, began=now)

    def _fault(
        self, wish: Wish, held: Wish | None, times: tuple[float, ...], *, now: float, purpose: str, rules: WishRules
    ) -> str | None:
        if "*" not in (wish.purpose, purpose) and wish.purpose != purpose:
            return f"this project trains for {purpose!r}, not for {wish.purpose[:60]!r}"
        if wish.at > now + SKEW_SECONDS:
            return f"it is dated {wish.at - now:,.0f} s ahead: set the clock of the site"
        if wish.at < now - rules.keep_seconds:
            return "it is too old to count: wish again"
        if wish.at <= self.newest.get(wish.site, -1.0):
            return "this wish or a newer one of this site was heard before"
        if len(times) >= rules.a_day:
            return f"{len(times)} wishes of this site were heard in the last 24 hours, and {rules.a_day} is the limit"
        if held is None and len(self.wishes) >= MAX_WISHES:
            return f"the list is full ({MAX_WISHES:,} sites)"
        return None

    def _times(self, site: str, now: float) -> tuple[float, ...]:
        return tuple(at for at in self.heard.get(site, ()) if at > now - DAY_SECONDS)

    def _fresh(self, now: float, rules: WishRules) -> "WishBook":
        kept = {site: wish for site, wish in self.wishes.items() if wish.at >= now - rules.keep_seconds}
        # an older wish does not count by itself, so its date need not be remembered
        newest = {site: at for site, at in self.newest.items() if at >= now - rules.keep_seconds}
        return replace(self, wishes=kept, newest=newest)
