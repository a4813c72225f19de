"""When the wishes of sites start a run, who pays, and what one site cannot do."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foa.errors import BadMessage
from foa.fl.wish_wire import WishTold, decode_told, decode_wish, encode_told, encode_wish
from foa.fl.wishes import DAY_SECONDS, Heard, NotYet, Start, Wish, WishBook, WishRules
from foa.registry.keys import new_key, public_key

NOW = 1_000_000.0
RULES = WishRules(sites=2, cool_down_seconds=3_600.0, a_day=3, usd=4.0)
KEY = new_key()


def wish(site: str, number: int = 0, **given: object) -> Wish:
    fields = {"id": f"{site}-{number}", "site": site, "purpose": "night vision", "at": NOW + number, **given}
    return Wish(**fields)  # type: ignore[arg-type]


def heard(*wishes: Wish, book: WishBook | None = None, now: float = NOW, rules: WishRules = RULES) -> tuple[WishBook, Heard]:
    book, said = book or WishBook(), Heard(state="kept", text="")
    for one in wishes:
        book, said = book.hear(one, now=now, purpose="night vision", rules=rules)
    return book, said


def due(book: WishBook, *, now: float = NOW, cost: float = 0.0, present: str = "abc") -> Start | NotYet:
    return book.due(now=now, cost_usd=cost, present=set(present), rules=RULES)


def test_a_run_starts_when_enough_sites_want_it_and_not_before() -> None:
    one, said = heard(wish("a"))
    assert said.state == "kept"
    assert due(one) == NotYet(reason="1 of 2 sites that are here want it")
    two, _ = heard(wish("b"), book=one)
    start = due(two)
    assert isinstance(start, Start)
    assert [asked.site for asked in start.wishes] == ["a", "b"]


def test_a_site_counts_once_however_often_it_wishes() -> None:
    book, said = heard(wish("a"), wish("a", 1), wish("a", 2))
    assert said == Heard(state="kept", text="your wish took the place of your last one")
    assert list(book.wishes) == ["a"]
    assert isinstance(due(book), NotYet)


def test_a_site_is_heard_a_few_times_a_day_and_again_the_next() -> None:
    book, said = heard(*(wish("a", number) for number in range(4)))
    assert said.state == "refused"
    assert "3 is the limit" in said.text
    later = NOW + DAY_SECONDS + 10
    assert heard(wish("a", 9, at=later), book=book, now=later)[1].state == "kept"


def test_a_repeated_delivery_changes_nothing_and_costs_nothing() -> None:
    book, _ = heard(wish("a"))
    again, said = heard(*[wish("a")] * 9, book=book)
    assert (again, said.state) == (book, "repeated")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (wish("a", purpose="weather"), "not for 'weather'"),
        (wish("a", at=NOW + 301), "set the clock"),
        (wish("a", at=NOW - 8 * DAY_SECONDS), "wish again"),
    ],
)
def test_a_wish_that_cannot_count_is_refused_with_the_reason(bad: Wish, why: str) -> None:
    book, said = heard(bad)
    assert (book, said.state) == (WishBook(), "refused")
    assert why in said.text


def test_an_older_wish_does_not_come_back() -> None:
    _, said = heard(wish("a", 5), wish("a", 4))
    assert said == Heard(state="refused", text="this wish or a newer one of this site was heard before")


def test_a_wish_that_was_answered_cannot_be_played_again() -> None:
    book, _ = heard(wish("a"), wish("b"))
    start = due(book)
    assert isinstance(start, Start)
    book, said = heard(wish("a"), book=book.begun(start, now=NOW), now=NOW + 7_200)
    assert said.state == "refused"
    assert book.wishes == {}


def test_who_is_away_or_asked_too_long_ago_does_not_count() -> None:
    book, _ = heard(wish("a"), wish("b"))
    assert isinstance(due(book, present="a"), NotYet)
    assert isinstance(due(book, now=NOW + 8 * DAY_SECONDS), NotYet)


def test_after_a_run_there_is_a_rest_also_for_those_who_did_not_ask_before() -> None:
    book, _ = heard(wish("a"), wish("b"), wish("c"))
    start = due(book, present="ab")
    assert isinstance(start, Start)
    book = book.begun(start, now=NOW)
    assert list(book.wishes) == ["c"]
    book, _ = heard(wish("d"), book=book)
    assert due(book, present="cd", now=NOW + 600) == NotYet(
        reason="the last wished run began a while ago; the next may begin in 3,000 s"
    )
    assert isinstance(due(book, present="cd", now=NOW + 3_600), Start)


def test_the_owner_pays_first_and_the_askers_the_rest_by_their_pledges() -> None:
    book, _ = heard(wish("a", usd=1.0), wish("b", usd=3.0))
    # 6 US$: the owner 4, the askers 2 of the 4 they pledge: a half of each pledge
    start = due(book, cost=6.0)
    assert isinstance(start, Start)
    assert (start.owner_usd, start.shares) == (4.0, {"a": 0.5, "b": 1.5})
    assert due(book, cost=8.5) == NotYet(reason="it may cost US$ 8.50: the owner pays 4.00 and 4.00 are pledged")
    free = due(book, cost=3.0)
    assert isinstance(free, Start)
    assert (free.owner_usd, free.shares) == (3.0, {"a": 0.0, "b": 0.0})


@given(
    pledges=st.lists(st.floats(0, 1e6), min_size=2, max_size=9),
    cost=st.floats(0, 1e7),
    usd=st.floats(0, 1e6),
)
def test_nobody_pays_more_than_it_said_and_together_they_pay_the_cost(pledges: list[float], cost: float, usd: float) -> None:
    rules = replace(RULES, usd=usd)
    book, _ = heard(*(wish(f"s{i}", usd=pledge) for i, pledge in enumerate(pledges)), rules=rules)
    start = book.due(now=NOW, cost_usd=cost, present=book.wishes.keys(), rules=rules)
    if isinstance(start, NotYet):
        return
    assert start.owner_usd <= usd
    assert all(0 <= share <= book.wishes[site].usd * (1 + 1e-9) for site, share in start.shares.items())
    assert start.owner_usd + sum(start.shares.values()) == pytest.approx(cost, abs=1e-6)


def test_a_book_comes_back_from_disk() -> None:
    book, _ = heard(wish("a"), wish("b", usd=2.0))
    book = replace(book, began=NOW)
    assert msgspec.json.decode(msgspec.json.encode(book), type=WishBook) == book


def test_a_signed_wish_comes_back() -> None:
    assert decode_wish(encode_wish(wish("a"), KEY), site="a", key=public_key(KEY)) == wish("a")


def changed(payload: bytes, **fields: object) -> bytes:
    content = msgspec.json.decode(payload)
    return msgspec.json.encode({**content, "wish": {**content["wish"], **fields}})


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (encode_wish(wish("a"), new_key()), "not its own"),
        (changed(encode_wish(wish("a"), KEY), usd=9.0), "not its own"),
        (encode_wish(wish("b"), KEY), "speaks for b"),
        (changed(encode_wish(wish("a"), KEY), usd=-1.0), "not a usable wish"),
        (b"{}", "not a usable wish"),
        (b"[" * 4_000, "not a usable wish"),
        (b"x" * 5_000, "over 4,096"),
    ],
)
def test_a_forged_or_broken_wish_is_refused(payload: bytes, why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        decode_wish(payload, site="a", key=public_key(KEY))


def test_what_is_told_comes_back_and_says_when_it_is_the_last() -> None:
    told = WishTold(wish="a-0", state="done", text="12 rounds", run="r")
    assert decode_told(encode_told(told)) == told
    assert told.is_last
    assert not replace(told, state="started").is_last
    with pytest.raises(BadMessage):
        decode_told(b'{"wish": "a", "state": "perhaps", "text": ""}')
