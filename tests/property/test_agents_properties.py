"""What holds of agents whatever is thrown at them."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agents import PLENTY

from foa.agents.brain import Peer, Revision
from foa.agents.evidence import Evidence, attribute, sentences, tidy
from foa.agents.frontmatter import split_front_matter
from foa.agents.profile import parse_profile
from foa.agents.rounds import Rounds
from foa.agents.rules import MAX_CLAIMS, propose_by_rule, revise_by_rule
from foa.agents.spec import excerpt, read_spec
from foa.errors import BadInput
from foa.messages import RoundPost
from foa.plan.consensus import agreement, representative, similarity, words
from foa.values.draft import Claim, Draft, Source
from foa.values.ids import AgentId, ClusterId, JobId

names = st.sampled_from(["a", "b", "c", "d", "e"]).map(AgentId)
texts = st.text("abc xyz.?!\n-:1", max_size=60)
claims = st.builds(
    Claim,
    text=texts.filter(bool),
    source=st.none() | st.builds(Source, kind=st.just("file"), locator=st.sampled_from(["a.py:1", "b.py:2"])),
)
drafts = st.builds(
    Draft, answer=texts, claims=st.lists(claims, max_size=5).map(tuple), confidence=st.floats(0, 1, allow_nan=False)
)
weights = st.dictionaries(names, st.floats(0, 1, allow_nan=False))


@given(st.dictionaries(names, drafts, min_size=1), weights, st.randoms(use_true_random=False))
def test_every_member_computes_the_same_representative_whatever_the_order(
    posted: dict[AgentId, Draft], trust: dict[AgentId, float], order: random.Random
) -> None:
    shuffled = list(posted.items())
    order.shuffle(shuffled)
    assert representative(dict(shuffled), trust) == representative(posted, trust)
    assert all(0.0 <= share <= 1.0 for share in agreement(posted, trust).values())


@given(texts, texts)
def test_similarity_is_symmetric_and_bounded(one: str, other: str) -> None:
    assert similarity(words(one), words(other)) == similarity(words(other), words(one))
    assert 0.0 <= similarity(words(one), words(other)) <= 1.0 + 1e-9
    assert similarity(words(one), words(one)) > 1.0 - 1e-9


posts = st.builds(
    RoundPost,
    cluster=st.sampled_from(["c-1", "c-2"]),
    agent=st.sampled_from(["a", "b", "c", "stranger"]),
    round=st.integers(1, 16),
    draft=st.none() | drafts,
    stop=st.booleans(),
    moved=st.floats(0, 1, allow_nan=False),
)


@given(st.lists(posts, max_size=60), st.integers(1, 5), st.floats(0, 1), st.floats(0, 1))
def test_rounds_end_at_k_and_keep_one_post_a_member_and_round_whatever_is_sent(
    sent: list[RoundPost], k: int, quorum: float, gain: float
) -> None:
    members = frozenset(map(AgentId, "abc"))
    rounds = Rounds(
        cluster=ClusterId("c-1"), own=AgentId("a"), members=members, weights={}, rounds=k, quorum=quorum, gain=gain
    )
    counted = sum(not rounds.accept(post) for post in sent)
    assert counted <= 2 * k
    number = 0
    while True:
        number += 1
        rounds.current = number
        rounds.own_post(RoundPost(cluster="c-1", agent="a", round=number, draft=Draft(answer="own")))
        verdict = rounds.verdict(number)
        assert set(rounds.heard(number)) <= members
        assert "a" in rounds.drafts(number)
        if verdict.stop:
            break
    assert number <= k


@given(st.text(max_size=400))
def test_reading_any_text_gives_a_profile_or_a_sentence(text: str) -> None:
    said = profile = None
    try:
        profile = parse_profile(text, file="x.md")
    except BadInput as error:
        said = str(error)
    assert (said or "").startswith("x.md:") if profile is None else (profile.name and profile.description)


_lines = st.lists(
    st.sampled_from(["name: x", "a: b: c", "- item", "  more", "[", "x: {", "key:", '"', "# c", "&a *a", "? q", "|", "%"])
)


@given(_lines)
def test_reading_any_front_matter_gives_fields_or_a_sentence_with_a_line(lines: list[str]) -> None:
    said = front = None
    try:
        front = split_front_matter("---\nk: v\n" + "\n".join(lines) + "\n---\nbody", file="x.md")
    except BadInput as error:
        said = str(error)
    assert (said or "").startswith("x.md:") if front is None else set(front.lines) == set(front.fields)


@given(st.text(max_size=300), st.text(max_size=200), st.integers(1, 120))
def test_a_spec_of_any_text_can_be_read_and_shortened(spec: str, request: str, characters: int) -> None:
    assert isinstance(read_spec(spec).declines(request), str)
    assert len(excerpt(spec, characters=characters)) <= characters


@given(st.text(max_size=300), st.lists(st.text(max_size=100), max_size=4))
def test_every_claim_of_an_answer_names_evidence_that_was_given_or_nothing(said: str, found: list[str]) -> None:
    evidence = [Evidence(source=Source(kind="file", locator=f"f:{n}"), text=text) for n, text in enumerate(found)]
    for claim in attribute(said, evidence):
        assert claim.text in sentences(said)
        assert claim.source is None or claim.source.locator in {piece.source.locator for piece in evidence}


@given(st.text(min_size=1, max_size=300), st.integers(1, 8))
def test_a_rule_proposes_at_least_one_subtask_and_no_more_than_asked(text: str, most: int) -> None:
    proposal = propose_by_rule(text, most=most)
    assert 1 <= len(proposal.subtasks) <= most
    assert all(part.text for part in proposal.subtasks)


@settings(max_examples=60)
@given(drafts, st.dictionaries(names, drafts, max_size=4), weights)
def test_revising_by_rule_keeps_own_sources_and_bounds_and_settles(
    own: Draft, posted: dict[AgentId, Draft], trust: dict[AgentId, float]
) -> None:
    peers = tuple(Peer(agent=agent, weight=trust.get(agent, 0.5), draft=draft) for agent, draft in posted.items())

    def revision(draft: Draft) -> Revision:
        return Revision(
            job=JobId("j"),
            cluster=ClusterId("c"),
            text="abc xyz",
            round=2,
            own=draft,
            own_weight=0.5,
            peers=peers,
            budget=PLENTY,
        )

    revised = revise_by_rule(revision(own))
    assert [claim for claim in own.claims if claim.source] == [
        claim for claim in revised.draft.claims[: len(own.claims)] if claim.source and claim in own.claims
    ]
    assert len(revised.draft.claims) <= MAX_CLAIMS
    for _ in range(20):
        if revised.stop:
            break
        revised = revise_by_rule(revision(revised.draft))
    assert revised.stop


@given(st.text("ab .!?\n<>[1]:", max_size=200))
def test_tidying_only_takes_away_and_settles(said: str) -> None:
    once = tidy(said)
    assert set(once.split()) <= set(said.split())
    assert tidy(once) == once or len(tidy(once)) < len(once)
