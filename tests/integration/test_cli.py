"""The command line as a user has it: processes, signals, exit codes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from foa.agents.profile import parse_profile
from foa.registry.canonical import canonical
from foa.registry.card import decode_card

SECONDS = 90.0
AGENT = """---
name: {name}
description: Answers questions about {about}.
skills: [{about}]
examples: ["What is known of {about}?"]
tools: [documents]
---
Answer from the documents.
"""


class Terminal:
    """Runs `foa` in a folder, with a state folder and a model endpoint of its own."""

    def __init__(self, folder: Path, model_url: str) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOA_", "FOE_"))}
        own = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CONFIG_HOME": str(folder / "config"), "NO_COLOR": "1"}
        self.environment = {**kept, **own, "FOA_MODEL_URL": model_url, "FOA_MODEL": "none"}

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "foa", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == code, err
        assert "Traceback" not in err
        return out, err


class Refusal(BaseHTTPRequestHandler):
    """Knows no model, and says so at once: agents then answer by rule, from what they found."""

    def do_POST(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def refusing_model() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@pytest.fixture
def terminal(tmp_path, refusing_model) -> Terminal:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "apples.md").write_text("# Apples\n\nApples are stored at four degrees in the cellar.\n")
    (tmp_path / "docs" / "pears.md").write_text("# Pears\n\nPears are picked in September before they are ripe.\n")
    for about in ("apples", "pears"):
        (tmp_path / f"{about}.md").write_text(AGENT.format(name=about, about=about))
    settings = "[settings]\nFOE_DECOMP_THRESHOLD = 0.0\nFOE_REFINE_ROUNDS = 0\n"
    top = 'name = "fruit"\nagents = ["apples.md", "pears.md"]\nover = "docs"\n'
    (tmp_path / "FEDERATION.toml").write_text(top + settings)
    return Terminal(tmp_path, refusing_model)


@pytest.fixture
def up(terminal) -> Iterator[str]:
    """A running `foa up`; gives its broker's address."""
    process = terminal.start("up", "FEDERATION.toml", "--port", "0")
    address = ""
    assert process.stderr is not None
    for line in process.stderr:
        if "ask with" in line:
            address = line.split()[6]
            break
    yield address
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, rest


@pytest.fixture
def silent_model() -> Iterator[str]:
    """An endpoint that takes every request and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in taken:
            each.close()


def test_a_question_is_answered_with_its_sources_as_one_json_object(terminal):
    out, _ = terminal.run("ask", "--json", "--federation", "FEDERATION.toml", "How are apples stored?")
    result = json.loads(out)
    assert result["status"] == "done"
    assert "four degrees" in result["answer"]
    assert any(source["locator"].startswith("apples.md:") for source in result["sources"])
    assert {"plan", "assignments", "refusals", "clusters", "rounds", "fallbacks", "bill"} <= result.keys()
    assert result["assignments"][0]["factors"].keys() >= {"similarity", "policy", "resources", "spec"}


def test_progress_goes_to_stderr_and_the_answer_to_stdout(terminal):
    out, err = terminal.run("ask", "--federation", "FEDERATION.toml", "When are pears picked?")
    assert "September" in out
    assert "Sources" in out
    assert "plan:" in err
    assert "plan:" not in out


def test_a_running_federation_is_asked_listed_and_searched_from_elsewhere(terminal, up):
    listed = json.loads(terminal.run("agents", "list", "--json", "--broker", up)[0])
    assert [agent["agent_id"] for agent in listed["agents"]] == ["apples", "pears"]
    found = json.loads(terminal.run("agents", "search", "--json", "--broker", up, "--skill", "pears", "ripe pears")[0])
    assert [each["agent"] for each in found["candidates"]] == ["pears"]
    assert "does not have pears" in found["refusals"]["apples"]
    shown = terminal.run("agents", "show", "apples", "--broker", up)[0]
    assert "Answers questions about apples." in shown
    out, _ = terminal.run("ask", "--broker", up, "How are apples stored?")
    assert "four degrees" in out


def test_jobs_are_listed_shown_and_watched_from_the_journal(terminal):
    terminal.run("ask", "--quiet", "--federation", "FEDERATION.toml", "How are apples stored?")
    (job,) = json.loads(terminal.run("jobs", "list", "--json")[0])
    assert job["status"] == "done"
    assert "four degrees" in terminal.run("jobs", "show", job["job_id"].removeprefix("job-")[:8])[0]
    out, err = terminal.run("jobs", "watch", job["job_id"])
    assert "four degrees" in out
    assert "plan:" in err


def test_ctrl_c_cancels_the_job_and_shows_what_was_reached(terminal, silent_model):
    terminal.environment["FOA_MODEL_URL"] = silent_model
    process = terminal.start("ask", "--federation", "FEDERATION.toml", "How are apples stored?")
    assert process.stderr is not None
    seen = next(line for line in process.stderr if "able:" in line)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 10, seen + err
    assert "stopping job" in err
    assert "cancelled" in out


def test_a_job_is_cancelled_from_another_terminal(terminal, silent_model):
    terminal.environment["FOA_MODEL_URL"] = silent_model
    serving = terminal.start("up", "FEDERATION.toml", "--port", "0")
    assert serving.stderr is not None
    broker = next(line for line in serving.stderr if "ask with" in line).split()[6]
    asking = terminal.start("ask", "--broker", broker, "How are apples stored?")
    assert asking.stderr is not None
    next(line for line in asking.stderr if "able:" in line)
    (job,) = json.loads(terminal.run("jobs", "list", "--json", "--status", "running")[0])
    terminal.run("jobs", "cancel", job["job_id"], "--broker", broker, "--reason", "enough")
    out, err = asking.communicate(timeout=SECONDS)
    assert asking.returncode == 10, err
    assert "enough" in err
    assert "cancelled" in out
    serving.send_signal(signal.SIGTERM)
    serving.communicate(timeout=SECONDS)
    assert serving.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ask"], 2, "the task is empty"),
        (["ask", "x" * 100_001], 2, "over 100,000 characters"),
        (["ask", "--federation", "nowhere", "hi"], 2, "neither a FEDERATION.toml nor"),
        (["ask", "--over", "nowhere", "-f", "FEDERATION.toml", "hi"], 2, "nowhere is not a folder"),
        (["ask", "--broker", "mqtt://127.0.0.1:1", "hi"], 6, "no MQTT broker at mqtt://127.0.0.1:1"),
        (["ask", "--broker", "127.0.0.1", "hi"], 2, "write mqtt://"),
        (["ask", "--set", "FOE_TEAMSIZE=2", "hi"], 2, "did you mean FOE_TEAM_SIZE?"),
        (["ask", "-f", "FEDERATION.toml", "--policy", "phi", "hi"], 3, "not cleared for phi"),
        (["ask", "-f", "FEDERATION.toml", "--budget-calls", "0", "hi"], 5, "buys no answer"),
        (["agent", "--broker", "mqtt://127.0.0.1:1", "nowhere.md"], 2, "nowhere.md"),
        (["agent", "--broker", "mqtt://127.0.0.1:1", "apples.md"], 6, "no MQTT broker at mqtt://127.0.0.1:1"),
        (["orchestrator"], 2, "--broker mqtt://"),
        (["orchestrator", "--broker", "mqtt://127.0.0.1:1"], 6, "no MQTT broker"),
        (["up", "nowhere"], 2, "neither a FEDERATION.toml nor"),
        (["jobs", "show", "nothing"], 2, "there is no job nothing"),
        (["jobs", "cancel", "nothing"], 2, "name the broker"),
        (["agents", "show", "aples", "-f", "FEDERATION.toml"], 2, "did you mean apples?"),
        (["agents", "show", "aples", "-f", "FEDERATION.toml", "--as", "card"], 2, "did you mean apples?"),
        (["agents", "show", "apples", "--as", "a2b"], 2, "there is no form 'a2b'; did you mean a2a?"),
        (["agents", "show", "apples", "--as", "a2a"], 2, "add --url https://"),
        (["agents", "show", "apples", "--as", "mcp", "--json"], 2, "--json is not for --as"),
        (["agents", "import", "nowhere.json"], 2, "nowhere.json cannot be read"),
        (["agents", "import", "."], 2, "cannot be read: Is a directory"),
        (["agents", "import", "FEDERATION.toml"], 2, "FEDERATION.toml: this document is not JSON"),
        (["agents", "import", "apples.md", "--from", "oas"], 2, "did you mean oasf?"),
        (["agents", "import", "apples.md", "--output", "pears.md"], 2, "pears.md is there already"),
        (["broker", "--host", "0.0.0.0"], 2, "without passwords"),
        (["settings", "--set", "x"], 2, "--set NAME=VALUE"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_an_exit_code(terminal, arguments, code, words):
    _, err = terminal.run(*arguments, code=code)
    said = [line for line in err.splitlines() if line.startswith("foa: ")]
    assert len(said) == 1
    assert words in said[0]


def test_a_document_of_10_mb_is_refused_unread(terminal):
    with (terminal.folder / "large.json").open("wb") as file:
        file.truncate(10_000_000)
    assert "large.json is longer than 1,000,000 bytes" in terminal.run("agents", "import", "large.json", code=2)[1]


def test_an_agent_goes_out_in_every_form_and_runs_again_under_other_names(terminal, up):
    forms = ("card", "a2a", "oasf", "mcp", "markdown")
    for form in forms:
        url = ["--url", "https://agents.example.org/a2a"] if form == "a2a" else []
        document = terminal.run("agents", "show", "apples", "--broker", up, "--as", form, *url)[0]
        (terminal.folder / form).write_text(document)
        out, err = terminal.run("agents", "import", form, "--name", f"My {form}", "--output", f"my-{form}.md")
        assert out == ""
        assert ("its signed card holds: agent apples, version 1, key " in err) == (form in ("card", "a2a", "oasf"))
        assert f"my-{form}.md is the file of agent my-{form}" in err
    running = terminal.start("agent", *(f"my-{form}.md" for form in forms), "--broker", up)
    assert running.stderr is not None
    next(line for line in running.stderr if "5 agents at" in line)
    listed = json.loads(terminal.run("agents", "list", "--json", "--broker", up)[0])
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=SECONDS)
    assert listed["refused"] == {}
    agents = {agent["agent_id"]: agent for agent in listed["agents"]}
    assert set(agents) == {"apples", "pears", *(f"my-{form}" for form in forms)}
    for form in ("card", "a2a", "oasf", "markdown"):
        for same in ("description", "skills", "examples", "kinds"):
            assert agents[f"my-{form}"][same] == agents["apples"][same]
    assert agents["my-mcp"]["skills"] == ["apples"]  # a list of one tool, and that is its name


def test_a_printed_card_is_the_one_at_the_broker_and_may_be_imported_from_a_pipe(terminal, up):
    card = terminal.run("agents", "show", "pears", "--broker", up, "--as", "card")[0]
    assert decode_card(card.encode()).agent_id == "pears"
    assert canonical(json.loads(card)) == card.encode()
    process = terminal.start("agents", "import", "-", "--from", "card", stdin=subprocess.PIPE)
    out, err = process.communicate(card, timeout=SECONDS)
    assert process.returncode == 0, err
    assert parse_profile(out, file="pears.md").description == "Answers questions about pears."


def test_a_bad_transcript_is_pointed_at_by_its_line(terminal):
    (terminal.folder / "chat.json").write_text('[\n {"role": "user", "content": "a"},\n {"role": "you"}\n]')
    assert "chat.json:3" in terminal.run("ask", "--file", "chat.json", code=2)[1]


def test_an_agent_file_that_is_wrong_is_pointed_at_by_its_line(terminal):
    (terminal.folder / "apples.md").write_text("---\nname: apples\npolicies: [NOT A LABEL]\n---\nx\n")
    assert "apples.md:3" in terminal.run("ask", "-f", "FEDERATION.toml", "hi", code=2)[1]


def test_an_orchestrator_prints_the_key_that_others_know_it_by(terminal):
    shown = terminal.run("orchestrator", "--id", "zero-a", "--show-key")[0]
    assert re.fullmatch(r"zero-a=[A-Za-z0-9_-]{43}\n", shown)
    assert terminal.run("orchestrator", "--id", "zero-a", "--show-key")[0] == shown


def test_two_orchestrators_of_one_name_are_refused(terminal, up):
    assert "give this one another --id" in terminal.run("orchestrator", "--broker", up, code=2)[1]
