"""Start and stop the llama.cpp child process; nothing here blocks the loop or belongs to one."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Self

from foa.errors import ModelUnreachable


def half_of_the_cores() -> int:
    """At least 1, at most 4: brokers, agents and the rest of the machine work, too."""
    return min(4, max(1, (os.cpu_count() or 2) // 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaOptions:
    """How the server shares the machine. The defaults were chosen by measuring on two cores (docs/explanation/models.md)."""

    parallel: int = 4  #: slots; each keeps the prompt it had last, so that a shared beginning is not read again
    at_once: int = 2  #: requests under way; more at once make each slower
    context_tokens: int = 4096  #: prompt and reply of one request
    #: CPU threads; llama.cpp's threads wait for each other by spinning, so one too many on a busy machine is far slower
    threads: int = field(default_factory=half_of_the_cores)
    prompt_cache_mib: int = 256  #: memory for prompt prefixes that lost their slot
    start_seconds: float = 60.0  #: until it must listen


class EmbeddedServer:
    """llama.cpp with its OpenAI-compatible HTTP interface, on a free loopback port, behind a random API key.

    Use it as `async with EmbeddedServer(gguf) as server`, or call `start` and `stop` from a thread.
    """

    def __init__(self, weights: Path, *, alias: str = "local", options: LlamaOptions | None = None) -> None:
        self.weights = weights
        self.alias = alias  #: the model's name in requests
        self.options = options or LlamaOptions()
        self.api_key = secrets.token_urlsafe(24)
        self._url = ""
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def base_url(self) -> str:
        """E.g. `http://127.0.0.1:39041/v1`; empty before it started."""
        return self._url

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return bool(self._url) and self._process is not None and self._process.poll() is None

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self.start)
        except BaseException:
            self.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    def start(self) -> str:
        """Start, wait until it listens, give the base URL. Blocks; does nothing when it runs.

        Raises:
            ModelUnreachable: it ended or was silent past `start_seconds`; the last line of its log is in the message.
        """
        with self._lock:
            if not self.running:
                self._close()
                self._url = self._launch()
            return self._url

    def stop(self) -> None:
        """End the process and wait for it. Blocks shortly; may be called twice."""
        self.kill()
        with self._lock:
            self._close()

    def kill(self) -> None:
        """Tell the process to end, without waiting; a `start` under way in a thread fails."""
        if self._process is not None:
            self._process.kill()

    def _launch(self) -> str:
        self._log = tempfile.TemporaryFile(prefix="foa-llama-")  # noqa: SIM115 - lives as long as the process
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "foa.models.llama_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        watchdog = threading.Timer(self.options.start_seconds, process.kill)
        watchdog.start()
        try:
            process.stdin.write(json.dumps(self._asked()) + "\n")
            process.stdin.flush()
            told = process.stdout.readline()
        except BrokenPipeError:
            told = ""
        finally:
            watchdog.cancel()
        if not told:
            process.wait()
            why = self._last_line()
            self._close()
            raise ModelUnreachable(
                f"the embedded model's server did not start ({why}). Free some memory, delete {self.weights} "
                "to fetch it again, or set FOA_MODEL_URL to an OpenAI-compatible endpoint"
            )
        return f"{json.loads(told)['url']}/v1"

    def _asked(self) -> dict[str, object]:
        return {"weights": str(self.weights), "alias": self.alias, "api_key": self.api_key, **asdict(self.options)}

    def _last_line(self) -> str:
        if self._log is None:
            return "no reason given"
        self._log.seek(0)
        lines = [line for line in self._log.read()[-8_000:].decode(errors="replace").splitlines() if line.strip()]
        return next((line for line in reversed(lines) if " E " in line or "Error" in line), lines[-1] if lines else "silent")

    def _close(self) -> None:
        process, self._process, self._url = self._process, None, ""
        if process is not None:
            process.kill()
            process.communicate()
        if self._log is not None:
            self._log.close()
            self._log = None
