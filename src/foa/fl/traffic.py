"""How much of its update each device sends: the plan's share, or less on a line that is too thin for it.

plan.share ─► device_share(line, deadline) ─► the share in that device's terms
"""

from collections.abc import Sequence

VALUE_BYTES = 4  #: of a whole update: float32
#: Of each change that is kept: a level of one byte, and its part of the deflated bitmap: 1.4 bytes together at a share of
#: a quarter, 1.7 at a tenth, 2.3 at a fiftieth (`foa.fl.codec`, 100,000 normal changes).
KEPT_BYTES = 2
PART_OF_DEADLINE = 0.25  #: of a round, that sending an update back may take


def upload_bytes(values: int, share: float) -> float:
    """Bytes of an update of so many numbers, of which a share is sent; a share of 1 is sent whole and in 32 bits."""
    return values * (VALUE_BYTES if share >= 1 else KEPT_BYTES * share)


def device_share(
    planned: float, shares: Sequence[float], *, values: int, bytes_a_second: float | None, deadline_seconds: float
) -> float:
    """The share that one device is asked to send.

    Args:
        planned: by the round's plan; never exceeded.
        shares: what the owner allows, each above 0 and at most 1.
        values: numbers in the model.
        bytes_a_second: of the device's line to the server; None or 0: not known, the plan's share holds.
        deadline_seconds: of the round.

    Returns:
        The largest allowed share up to the plan's whose upload takes at most a quarter of the round; where none does,
        the smallest.
    """
    if not bytes_a_second:
        return planned
    allowed = sorted({share for share in (*shares, planned) if share <= planned}, reverse=True)
    seconds = deadline_seconds * PART_OF_DEADLINE
    fitting = (share for share in allowed if upload_bytes(values, share) / bytes_a_second <= seconds)
    return next(fitting, allowed[-1])
