"""A server that words its messages so that a guardian might be gone round: each way ends at a no."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from foa.fl.client_mod import Site, guarded, guardian_mod
from foa.fl.contents import arrays_of
from foa.fl.flower import CRASHED, REFUSED, begin, context, stamp
from foa.fl.guardian import Condition, Guardian, Limits, Terms, TrainAsk
from foa.fl.ledger import PrivacyLedger
from foa.fl.packing import PACKED
from foa.fl.privacy import NoisyTraining, plan_budget
from foa.fl.project import App, read_project
from foa.fl.secagg import wire
from foa.fl.secagg.levels import Scale
from foa.fl.secagg.member import Member
from foa.fl.secagg.wire import SECAGG
from foa.fl.terms import RECORD, write_ask
from tests.fakes import HandClock

NODE = 7
TERMS = Terms(epochs=1, steps=5, width=1.0, batch=10, noise_multiplier=2.0, clip=1.0)
ASK = TrainAsk(run="run-1", round=1, purpose="x", terms=TERMS, deadline_seconds=60, cohort=4)
PLAIN = replace(ASK, terms=replace(TERMS, noise_multiplier=0.0))
KEYS = {"noise_multiplier": "noise", "steps": "steps", "batch": "batch"}

Answer = Callable[[Message], Message]


@pytest.fixture(autouse=True)
def a_process() -> None:
    begin()


@pytest.fixture
def ledger() -> Iterator[PrivacyLedger]:
    with PrivacyLedger(
        ":memory:", plan_budget(8.0, 1e-5, NoisyTraining(noise_multiplier=2, sample_rate=0.01, steps=5))
    ) as book:
        yield book


def app(trains: Callable[[Message], list[float]] = lambda _: [1.0, -1.0]) -> ClientApp:
    made = ClientApp()

    @made.train()
    def train(message: Message, kept: Context) -> Message:
        arrays = ArrayRecord({"w": Array(np.array(trains(message), np.float32))})
        return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 20})}), reply_to=message)

    @made.evaluate()
    def evaluate(message: Message, kept: Context) -> Message:
        return Message(RecordDict({"metrics": MetricRecord({"accuracy": 0.5})}), reply_to=message)

    return made


def site(limits: Limits, ledger: PrivacyLedger | None = None) -> Site:
    return Site(guardian=Guardian(limits, ledger), condition=lambda: Condition(records=1_000), clock=HandClock(), keys=KEYS)


def answering(behind: Site, made: ClientApp | None = None) -> Answer:
    acting, kept = guarded(made or app(), behind), context(NODE, {})
    return lambda message: acting(message, kept)


def asking(
    ask: TrainAsk | None, *, kind: str = "train", config: bool = True, secagg: dict[str, object] | None = None
) -> Message:
    content = RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(2, np.float32))})})
    if config:
        content["config"] = ConfigRecord({"noise": 0.0})
    if ask is not None:
        content[RECORD] = ConfigRecord(write_ask(ask))  # type: ignore[arg-type]
    if secagg is not None:
        content[SECAGG] = ConfigRecord(secagg)  # type: ignore[arg-type]
    message = Message(content, NODE, kind)
    stamp(message)
    return message


def why(reply: Message) -> str:
    return reply.error.reason or ""


@pytest.mark.parametrize("kind", ["train", "train.default"])
def test_flowers_other_name_of_a_type_is_no_way_round_the_guardian(kind: str, ledger: PrivacyLedger) -> None:
    answer = answering(site(Limits(noise_min=1.0), ledger))
    assert answer(asking(None, kind=kind)).error.code == REFUSED
    assert not answer(asking(ASK, kind=kind)).has_error()
    assert [entry.key for entry in ledger.entries()] == ["run-1/round-1"]


def test_an_owner_who_tells_no_measurements_tells_none_by_another_name() -> None:
    answer = answering(site(Limits(evaluates=False)))
    assert answer(asking(None, kind="evaluate.default")).error.code == REFUSED


@pytest.mark.parametrize(
    "limits",
    [
        Limits(secure_aggregation_required=True),
        Limits(cohort_min=3),
        Limits(purposes=("heart disease",)),
    ],
)
def test_without_terms_nobody_trains_whose_owner_set_conditions(limits: Limits) -> None:
    reply = answering(site(limits))(asking(None))
    assert reply.error.code == REFUSED
    assert "no terms" in why(reply)


def test_without_terms_and_conditions_another_servers_run_goes_on() -> None:
    assert not answering(site(Limits()))(asking(None)).has_error()


@pytest.mark.parametrize("kind", ["train", "train.default"])
def test_a_secure_ask_without_the_protocol_gets_no_update(kind: str) -> None:
    answer = answering(site(Limits(secure_aggregation_required=True)))
    assert answer(asking(replace(PLAIN, secure_aggregation=True), kind=kind)).has_error()


def test_a_mod_alone_masks_nothing_and_so_takes_no_secure_ask() -> None:
    made = ClientApp(mods=[guardian_mod(site(Limits(secure_aggregation_required=True)))])

    @made.train()
    def train(message: Message, kept: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    reply = made(asking(replace(PLAIN, secure_aggregation=True)), context(NODE, {}))
    assert reply.error.code == REFUSED
    assert "guarded" in why(reply)


def test_what_was_masked_is_not_sent_again_in_the_open(ledger: PrivacyLedger) -> None:
    answer = answering(site(Limits(), ledger))
    secure = replace(ASK, secure_aggregation=True)
    _take_part(answer, secure)
    assert ledger.find(ASK.key)  # it is kept against repetition
    reply = answer(asking(ASK))
    assert reply.error.code == REFUSED
    assert "secure aggregation" in why(reply)
    # in a new round of masks the same update may go once more
    assert "masked" in _take_part(answer, secure).content[SECAGG]


def _take_part(answer: Answer, ask: TrainAsk) -> Message:
    """Lead one site as far as its masked update, the others being made up."""
    own = wire.read_keys(dict(answer(asking(ask, secagg={"stage": "setup"})).content[SECAGG]))
    others = {node: Member(node=node, about=ask.key) for node in (11, 12, 13)}
    keys = {NODE: own, **{node: member.keys() for node, member in others.items()}}
    scale = Scale(members=4, weight_max=100)
    answer(asking(ask, secagg=wire.write_share(keys, 3, scale)))  # type: ignore[arg-type]
    sealed = {node: member.share(keys, 3)[NODE] for node, member in others.items()}
    return answer(asking(ask, secagg=wire.write_train(sealed)))  # type: ignore[arg-type]


def test_terms_with_noise_that_would_not_reach_the_app_are_refused_before_they_are_paid(ledger: PrivacyLedger) -> None:
    reply = answering(site(Limits(), ledger))(asking(ASK, config=False))
    assert reply.error.code == REFUSED
    assert "config" in why(reply)
    assert ledger.entries() == []


def test_a_site_whose_app_is_not_told_the_noise_does_not_train_with_noise(ledger: PrivacyLedger) -> None:
    deaf = replace(site(Limits(), ledger), keys={"steps": "steps", "batch": "batch"})
    reply = answering(deaf)(asking(ASK))
    assert reply.error.code == REFUSED
    assert "noise_multiplier" in why(reply)
    assert ledger.entries() == []


def test_what_went_wrong_with_noise_is_told_to_nobody_and_not_tried_again(ledger: PrivacyLedger) -> None:
    tried: list[int] = []

    def broken(message: Message) -> list[float]:
        tried.append(1)
        raise ValueError("patient A. B., born 1931, has no weight")

    answer = answering(site(Limits(), ledger), app(broken))
    reply = answer(asking(ASK))
    assert reply.error.code == CRASHED
    assert "patient" not in why(reply)
    # that it failed was a release too: the debit pays for no second one
    assert "paid for and answered" in why(answer(asking(ASK)))
    assert tried == [1]


def test_what_was_left_out_without_noise_does_not_go_out_under_noise(ledger: PrivacyLedger) -> None:
    changes = iter([[8.0, 3.0], [8.0, 0.0]])
    answer = answering(site(Limits(), ledger), app(lambda _: next(changes)))
    # half of two values: the 8 goes, the 3 stays behind
    assert PACKED in answer(asking(replace(PLAIN, share=0.5))).content
    reply = answer(asking(replace(ASK, round=2, share=1.0)))
    assert arrays_of(reply)["w"].tolist() == [8.0, 0.0]


HOSPITALS = Path(__file__).resolve().parents[2] / "examples" / "hospitals"


def test_the_example_takes_no_seed_of_its_noise_from_the_server(tmp_path: Path) -> None:
    made = App(HOSPITALS, read_project(HOSPITALS))
    columns = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "num")
    (tmp_path / "fl_heart_disease").mkdir()
    with (tmp_path / "fl_heart_disease" / "heart_disease_4centers.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["center", *columns])
        for place in ("cleveland", "hungarian", "switzerland", "va"):
            # chest pain of kinds 1 to 4, the ECG of kinds 0 to 2: thirteen features
            rows.writerows([place, *(n % 7 for _ in range(2)), 1 + n % 4, 0, n, 0, n % 3, n, 0, n, n % 2] for n in range(24))

    def trained() -> np.ndarray:
        told = {"noise": 1.0, "updates": 2, "batch": 4, "clip": 1.0, "server-round": 1, "benchmark-seed": 5}
        content = {"arrays": made.part("arrays")(), "config": ConfigRecord({**dict(made.part("config")()), **told})}
        message = Message(RecordDict(content), NODE, "train")
        stamp(message)
        reply = made.part("app")(message, context(NODE, {"partition-id": 2, "data": str(tmp_path)}))
        return arrays_of(reply)["linear.weight"]

    assert not np.array_equal(trained(), trained())
