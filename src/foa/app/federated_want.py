"""A site asks its project's server for a training, and hears what becomes of it. Signed by the key of the site's card."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from foa.app.fabric import open_fabric
from foa.app.keys import host_key
from foa.app.settings import Settings
from foa.errors import AgentRefused, BadMessage, Unreachable
from foa.fl.wish_wire import WishTold, decode_told, encode_wish
from foa.fl.wishes import Wish
from foa.ports import Clock, Delivery
from foa.values.ids import AgentId
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a site wants."""

    project: str  #: id of the project
    site: AgentId
    purpose: str = "*"
    why: str = ""  #: for the people at the server
    usd: float = 0.0  #: it pledges at most so much


async def want(
    wanted: Wanted,
    settings: Settings,
    clock: Clock,
    *,
    answer_seconds: float = 15.0,
    wait_seconds: float = 0.0,
    tell: Callable[[WishTold], None] | None = None,
) -> WishTold:
    """Make a wish and give what was told of it last.

    Args:
        wanted: what.
        settings: broker, root, state folder (the key).
        clock: for the date of the wish.
        answer_seconds: how long the server may take to say that it heard.
        wait_seconds: how long to wait for the end of the run after that; 0: not at all.
        tell: hears everything that is told.

    Raises:
        AgentRefused: the server said no; the sentence says why.
        Unreachable: no server of the project answered.
        BrokerUnreachable: there is no broker at that address.
    """
    topics, wish = Topics(settings.root), _wish(wanted, clock)
    async with (
        open_fabric(settings) as fabric,
        fabric.connect(f"want-{secrets.token_hex(4)}") as link,
        link.subscribe(Filter(topic_filter=topics.told(wanted.project, wanted.site))) as inbox,
    ):
        payload = encode_wish(wish, host_key(settings.state_dir))
        await link.publish(Publication(topic=topics.wishes(wanted.project, wanted.site), payload=payload))
        try:
            async with asyncio.timeout(answer_seconds):
                told = await anext(_about(wish, inbox))
        except TimeoutError:
            raise Unreachable(
                f"no server of {wanted.project} answered within {answer_seconds:g} s: is `foa fl serve` running with a "
                f"[wishes] table in FL.toml, and `foa fl site` for {wanted.site} with the same FOA_STATE_DIR as here?"
            ) from None
        return await _to_the_end(wanted, wish, told, inbox, wait_seconds, tell or _nothing)


async def _to_the_end(
    wanted: Wanted,
    wish: Wish,
    told: WishTold,
    inbox: AsyncIterator[Delivery],
    seconds: float,
    tell: Callable[[WishTold], None],
) -> WishTold:
    tell(told)
    if told.state == "refused":
        raise AgentRefused(AgentId(f"{wanted.project}"), told.text)
    try:
        async with asyncio.timeout(seconds):
            async for newer in _about(wish, inbox):
                told = newer
                tell(told)
                if told.is_last:
                    break
    except TimeoutError:
        return told
    return told


async def _about(wish: Wish, inbox: AsyncIterator[Delivery]) -> AsyncIterator[WishTold]:
    """What is told of this wish; what was told of older ones, and nonsense, is passed over."""
    async for delivery in inbox:
        await delivery.acknowledge()
        try:
            told = decode_told(delivery.publication.payload)
        except BadMessage:
            continue
        if told.wish == wish.id:
            yield told


def _wish(wanted: Wanted, clock: Clock) -> Wish:
    return Wish(
        id=f"wish-{secrets.token_hex(8)}",
        site=wanted.site,
        purpose=wanted.purpose[:200],
        why=wanted.why[:500],
        usd=wanted.usd,
        at=clock.now(),
    )


def _nothing(told: WishTold) -> None: ...
