"""A result and a roster as people read them."""

import io

import numpy as np
from rich.console import Console

from foa.app.standing import Standing
from foa.cli.answer import draw_result, summary
from foa.cli.roster import draw_agent, draw_agents, draw_search, draw_standings, facts_of
from foa.cli.words import clean, count, money, seconds, shorten
from foa.values.draft import Source
from foa.values.ids import AgentId
from foa.values.resources import Price, Resources
from foa.values.result import Bill, Candidate, Factors, PlanNode, PlanView, Refusal, Report, Result, Routed
from foa.values.vcv import Vcv, Vitals

VECTOR = np.ones(4, np.float32) / 2


def text(drawn: object) -> str:
    console = Console(file=io.StringIO(), width=120, highlight=False)
    console.print(drawn)
    return console.file.getvalue()


def result(**changes: object) -> Result:
    fields = {
        "job_id": "job-1",
        "status": "done",
        "answer": "By eq. 3.\n\nSee below.",
        "sources": (Source(kind="file", locator="src/a.py:10-24", quote="def  staff(\n  job)"),),
        "plan": PlanView(
            nodes=(PlanNode(id="s1", text="Find it", proposers=("a",)), PlanNode(id="s2", text="Say it", proposers=()))
        ),
        "reports": (
            Report(subtask="s1", text="Find it", answer="x", confidence=0.81, by="code", agents=("code", "docs")),
            Report(subtask="s2", text="Say it", answer="", error="every agent that was asked was lost"),
        ),
        "refusals": (Refusal(subtask="s2", agent="git", reason="not cleared for phi"),),
        "lost": {"git": "silent for 20 s"},
        "fallbacks": ("s2 goes to another team",),
        "bill": Bill(usd=0.0123, tokens=5_120, calls=1, seconds=75.5),
    }
    return Result(**(fields | changes))


def test_a_result_shows_answer_sources_work_and_bill():
    shown = text(draw_result(result()))
    assert shown.startswith("By eq. 3.\n\nSee below.\n")
    assert "  1 src/a.py:10-24  def staff( job)" in shown
    assert next(line for line in shown.splitlines() if line.split()[:1] == ["s1"]).split() == [
        "s1",
        "Find",
        "it",
        "code",
        "docs",
        "0.81",
    ]
    assert "every agent that was asked was lost" in shown
    assert "lost git: silent for 20 s" in shown
    assert "fallback: s2 goes to another team" in shown
    assert "done in 1 min 15 s · $0.0123 · 5,120 tokens · 1 model call · 2 subtasks · 0 clusters · 0 rounds · job-1" in shown


def test_refusals_are_shown_where_the_job_did_not_go_well():
    assert "refused for s2: git: not cleared for phi" in text(draw_result(result(status="partial")))
    assert "refused" not in text(draw_result(result()))


def test_many_sources_are_cut_and_counted():
    many = tuple(Source(kind="file", locator=f"f{number}") for number in range(25))
    shown = text(draw_result(result(sources=many)))
    assert "f19" in shown
    assert "f20" not in shown
    assert "and 5 more (--json shows them all)" in shown


def test_what_agents_say_cannot_steer_the_terminal():
    hostile = "a\x1b[2Jb\x9bc\u202ed"
    shown = text(
        draw_result(
            result(
                answer=hostile,
                sources=(Source(kind="url", locator=hostile, quote=hostile),),
                lost={hostile: hostile},
                status="partial",
                refusals=(Refusal(subtask=hostile, agent=hostile, reason=hostile),),
                fallbacks=(hostile,),
            )
        )
    )
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
    assert "a[2Jbcd" in shown


def vcv(**changes: object) -> Vcv:
    fields = {
        "agent_id": AgentId("code-reader"),
        "version": 3,
        "name": "Code reader",
        "description": "Reads source code.",
        "skills": ("code", "python"),
        "c": VECTOR,
        "s": bytes(128),
        "r": Resources(price=Price(usd_per_call=0.002), context_tokens=8192.0, tools=("code",)),
        "p": frozenset({"phi", "gdpr"}),
        "e": VECTOR,
        "embedder": "wordllama/256",
    }
    return Vcv(**(fields | changes))


def test_a_roster_has_a_line_for_each_agent_and_each_refused_card():
    shown = text(draw_agents([vcv()], {"liar": "its signature does not hold"}))
    assert "code-reader  code, python  gdpr, phi  $0.0020 a call  Reads source code." in shown
    assert "refused liar: its signature does not hold" in shown
    assert "1 agent\n" in shown


def test_an_agent_at_another_broker_is_shown_as_that():
    shown = text(draw_agent(vcv(), Vitals(), "zero-b"))
    assert "at another broker: zero-b told of it" in shown
    assert "online" not in shown


def test_a_roster_says_who_told_of_agents_at_other_brokers():
    shown = text(draw_agents([vcv(), vcv(agent_id=AgentId("far"))], {}, {AgentId("far"): "zero-b"}))
    assert "known from" in shown
    assert "this broker" in shown
    assert "zero-b" in shown
    assert "1 agent at other brokers: known here, not asked from here" in shown


def test_one_agent_is_shown_with_all_it_says():
    shown = text(draw_agent(vcv(), Vitals(load=0.5, queue=2)))
    for words in (
        "code-reader, version 3",
        "context_tokens: 8192",
        "tools: code",
        "unsigned",
        "online, load 50%, 2 waiting",
    ):
        assert words in shown


def test_the_facts_of_an_agent_leave_its_vectors_out():
    assert {"c", "s", "e"}.isdisjoint(facts_of(vcv()))


def test_a_search_explains_scores_and_refusals():
    factors = Factors(similarity=0.8, policy=1.0, resources=0.9, spec=0.75, reputation=1.1)
    routed = Routed(
        candidates=(Candidate(agent="code", score=0.594, factors=factors),),
        refusals={"git": "policy: not cleared for phi"},
        fallback="none reached it",
    )
    shown = text(draw_search(routed))
    assert shown.splitlines()[1].split() == ["code", "0.594", "0.800", "1.000", "0.900", "0.750", "1.100"]
    assert "refused git: policy: not cleared for phi" in shown
    assert "fallback: none reached it" in shown
    assert "no agent fits" in text(draw_search(Routed(candidates=())))


def test_a_search_tells_how_likely_the_best_one_can_do_it_and_why_nobody_can():
    assert "fit 85%: how likely the best of them can do it" in text(draw_search(Routed(candidates=(), fit=0.85)))
    shown = text(draw_search(Routed(candidates=(), why="even the nearest, cook, can hardly do it")))
    assert "no agent fits: even the nearest, cook, can hardly do it" in shown
    assert "fit " not in shown.replace("agent fits", "")


def test_numbers_are_written_as_people_read_them():
    assert [money(usd) for usd in (0, 0.00012, 0.25, 1234.5)] == ["$0.00", "$0.0001", "$0.25", "$1,234.50"]
    assert [count(number, "call") for number in (0, 1, 3201)] == ["0 calls", "1 call", "3,201 calls"]
    assert [seconds(number) for number in (0.04, 59.94, 200)] == ["0.0 s", "59.9 s", "3 min 20 s"]
    assert shorten("a  b\nc" * 40, 10) == "a b ca b …"
    assert clean("a\tb\r\nc\x00") == "a\tb\nc"


def test_the_summary_is_one_line():
    assert "\n" not in summary(result())


def test_an_agents_reputation_is_shown_by_kind_of_work():
    stands = [Standing(kind="federated-learning", mean=0.789, evidence=0.2), Standing(kind="general", mean=0.8, evidence=3)]
    shown = text(draw_agent(vcv(), Vitals(), "", stands))
    assert "federated-learning 0.79 (graded work: 0.2)" in shown
    assert "general 0.80 (graded work: 3.0)" in shown
    assert "west is not there; its reputation: federated-learning 0.79" in text(draw_standings("west", stands))
