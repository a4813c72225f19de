"""What went wrong with an endpoint, as a sentence that says what to do."""

from pydantic_ai.exceptions import ModelAPIError, ModelContextWindowExceededError, ModelHTTPError

_MAX_DETAIL = 300


def explain(error: ModelAPIError, *, url: str, model: str) -> str:
    """One sentence on a failed request to an endpoint: who, why, and the way out."""
    if not isinstance(error, ModelHTTPError):
        return unreachable(url, model, why=_short(error.message))
    detail = _short(_detail(error.body) or error.message)
    if isinstance(error, ModelContextWindowExceededError) or "exceed_context_size" in str(error.body):
        return f"the prompt is too long for {model} at {url}: {detail}. Give it less evidence or a model with more context"
    way_out = _WAYS_OUT.get(error.status_code, "Its log may say more")
    return f"{url} refused with {error.status_code}: {detail}. {way_out.format(model=model, url=url)}"


def unreachable(url: str, model: str, *, why: str) -> str:
    """One sentence on an endpoint that does not answer."""
    return (
        f"no answer from the model at {url} ({why}). Is it running, and is the address right? For Ollama: "
        f"`ollama serve`, then `ollama pull {model}`, and an address that ends in /v1"
    )


_WAYS_OUT = {
    401: "The API key is missing or wrong: set FOA_MODEL_KEY",
    403: "The API key may not use {model}: set another FOA_MODEL_KEY or FOA_MODEL",
    404: "It does not know {model}, or the address is wrong: for Ollama `ollama pull {model}` and an address ending in /v1",
    429: "It is over its rate limit: ask again later, or lower `at_once`",
}


def _detail(body: object) -> str:
    """The sentence in OpenAI's error body, `{"error": {"message": …}}` or already its inside."""
    while isinstance(body, dict):
        body = body.get("error") or body.get("message")
    return body if isinstance(body, str) else ""


def _short(text: str) -> str:
    flat = " ".join(text.split()).rstrip(".")
    return flat if len(flat) <= _MAX_DETAIL else f"{flat[:_MAX_DETAIL]}…"
