"""The HTTP side of an OpenAI-compatible endpoint: retries with jitter, timeouts, a bound on what comes back."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx2
import pydantic_ai
from openai import AsyncOpenAI
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

pydantic_ai.BANNER_ENABLED = False  # the terminal belongs to foa's own output

MAX_RESPONSE_BYTES = 8_000_000  #: of one HTTP response
_OPENAI_HOSTS = ("openai.com", "azure.com")


def connect(base_url: str, api_key: str | None, *, attempts: int, seconds: float, proxied: bool) -> OpenAICompatibleProvider:
    """Point a client at an endpoint; nothing is sent yet. Its `client.close()` closes the connections.

    Args:
        base_url: address of the API, usually ending in `/v1`.
        api_key: sent as a bearer token; None where none is needed.
        attempts: how often a request is sent where the server answers 429 or 5xx or cuts the connection.
        seconds: most that one HTTP request may take.
        proxied: obey the proxy settings of the environment.

    Raises:
        ValueError: not an http(s) address, or fewer than 1 attempts.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url must be an http or https address, e.g. http://localhost:11434/v1, not {base_url!r}")
    if attempts < 1:
        raise ValueError("attempts must be at least 1")
    timeout = httpx2.Timeout(seconds, connect=min(5.0, seconds))
    http = httpx2.AsyncClient(timeout=timeout, trust_env=proxied, event_hooks={"response": [_bound]})
    client = AsyncOpenAI(base_url=base_url, api_key=api_key or "none", max_retries=attempts - 1, http_client=http)
    return OpenAICompatibleProvider("endpoint", openai_client=client)


def is_openai(base_url: str) -> bool:
    """Whether it is OpenAI itself, which wants `max_completion_tokens`; everybody else knows `max_tokens`."""
    host = urlsplit(base_url).hostname or ""
    return any(host == known or host.endswith(f".{known}") for known in _OPENAI_HOSTS)


async def _bound(response: httpx2.Response) -> None:
    """Let no response fill the memory."""
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _BoundedStream(response.stream)


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_RESPONSE_BYTES
        async for chunk in self._inner:
            left -= len(chunk)
            if left < 0:
                raise httpx2.ReadError(f"the response is over {MAX_RESPONSE_BYTES:,} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
