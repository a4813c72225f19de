"""GET requests to web APIs that the agent's file names, and to nothing else.

A URL must begin with an allowed base. Redirects stay on the host. Hosts with private addresses are refused unless allowed,
and the request goes to the very address that was checked, so that a name cannot change its mind in between.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from foa.agents.evidence import Evidence
from foa.agents.tools.guard import text_argument, text_schema
from foa.errors import BadInput, Unreachable
from foa.values.draft import Source

MAX_BYTES = 262_144  #: of one response
SECONDS = 10.0
REDIRECTS = 3
MAX_TEXT = 20_000  #: characters of a response that are looked at

_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]{0,2000}>", re.DOTALL | re.IGNORECASE)


class HttpTool:
    """Asks allowed web APIs.

    Args:
        bases: URLs that every request must begin with, scheme and host included.
        search: a URL with `{query}` in it, under one of the bases, by which the tool looks things up itself; empty: it
            cannot.
        name: the tool's name.
        about: what the API gives, for models.
        seconds: most time of one request, redirects included.
        max_bytes: most bytes of one response; the rest is not read.
        allow_private: also hosts on this machine and in private networks.

    Raises:
        BadInput: a base is no http(s) URL, or `search` is under none of them.
    """

    def __init__(
        self,
        bases: Sequence[str],
        *,
        search: str = "",
        name: str = "http",
        about: str = "",
        seconds: float = SECONDS,
        max_bytes: int = MAX_BYTES,
        allow_private: bool = False,
    ) -> None:
        self.name = name
        self.parameters = text_schema({"url": "the URL to get"}, required=["url"])
        self._bases = tuple(_url(base) for base in bases)
        if not self._bases:
            raise BadInput("an http tool needs `allow`: the URLs its requests may begin with")
        self.description = f"Gets {about or 'data'} over HTTP. URLs begin with {', '.join(bases)}."[:2_000]
        self._search = search
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._allow_private = allow_private
        if search:
            if "{query}" not in search:
                raise BadInput(f"the `search` URL {search[:100]!r} has no {{query}} in it")
            self._allowed(search.replace("{query}", "x"))

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Get a URL for a model.

        Raises:
            BadInput: the URL is not allowed.
            Unreachable: no usable answer in time.
        """
        return await self.get(text_argument(arguments, "url"))

    async def retrieve(self, query: str, k: int) -> list[Evidence]:
        """What the search URL gives for the question, as one piece.

        Raises:
            Unreachable: no usable answer in time.
        """
        if not self._search or k < 1:
            return []
        url = self._search.replace("{query}", quote(query[:300], safe=""))
        text = await self.get(url)
        return [Evidence(source=Source(kind="url", locator=url[:500]), text=text[:4_000], score=1.0)] if text else []

    async def get(self, url: str) -> str:
        """Get a URL; gives its text, markup taken out.

        Raises:
            BadInput: the URL is not allowed, or its host is private.
            Unreachable: no usable answer in time.
        """
        target = self._allowed(url)
        try:
            async with asyncio.timeout(self._seconds), httpx.AsyncClient(trust_env=False, timeout=self._seconds) as client:
                for _ in range(REDIRECTS + 1):
                    answer, onward = await self._once(client, target)
                    if onward is None:
                        return answer
                    if onward.host != target.host:
                        raise Unreachable(f"{target.host} redirects to {onward.host}, which this tool may not follow")
                    target = self._allowed(str(onward))
        except TimeoutError:
            raise Unreachable(f"{target.host} did not answer in {self._seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"{target.host} does not answer ({type(error).__name__})") from error
        raise Unreachable(f"{target.host} redirects in circles")

    async def _once(self, client: httpx.AsyncClient, url: httpx.URL) -> tuple[str, httpx.URL | None]:
        address = await self._address(url)
        request = client.build_request(
            "GET",
            url.copy_with(host=address),
            headers={"Host": url.netloc.decode("ascii"), "Accept": "application/json, text/*", "User-Agent": "foa"},
            extensions={"sni_hostname": url.host},
        )
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            if response.is_redirect:
                return "", url.join(response.headers.get("location", ""))
            if response.status_code >= 400:
                raise Unreachable(f"{url.host} answered {response.status_code}")
            content = b""
            async for part in response.aiter_bytes(16_384):
                content += part
                if len(content) >= self._max_bytes:
                    content = content[: self._max_bytes]
                    break
        finally:
            await response.aclose()
        return _text(content, response.headers.get("content-type", "")), None

    def _allowed(self, url: str) -> httpx.URL:
        target = _url(url)
        if ".." in target.path or not any(_under(target, base) for base in self._bases):
            raise BadInput(f"{url[:200]!r} is not allowed; URLs begin with {', '.join(map(str, self._bases))}")
        return target

    async def _address(self, url: httpx.URL) -> str:
        """Resolve a host and refuse private addresses; gives the address to connect to."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(url.host, url.port or 0, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unreachable(f"{url.host} is not known ({error.strerror or error})") from error
        addresses = [str(entry[4][0]) for entry in found]
        private = [one for one in addresses if not ipaddress.ip_address(one.split("%")[0]).is_global]
        if private and not self._allow_private:
            raise BadInput(f"{url.host} has the private address {private[0]}; set `allow_private: true` if that is wanted")
        return addresses[0]


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise BadInput(f"{text[:200]!r} is no URL") from error
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise BadInput(f"{text[:200]!r} will not do: an http or https URL with a host and without a password")
    return url


def _under(url: httpx.URL, base: httpx.URL) -> bool:
    same = (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)
    folder = base.path if base.path.endswith("/") else base.path + "/"
    return same and (url.path == base.path or url.path.startswith(folder))


def _text(content: bytes, kind: str) -> str:
    if b"\0" in content[:4_096]:
        return ""
    text = content.decode("utf-8", "replace")
    if "html" in kind or "xml" in kind:
        text = re.sub(r"[ \t]*\n\s*", "\n", _TAG.sub(" ", text))
    return text.strip()[:MAX_TEXT]
