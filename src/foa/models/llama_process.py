"""The child process that runs llama.cpp: `python -m foa.models.llama_process`, spoken to by `foa.models.llama_server`.

    stdin   one JSON line (LlamaOptions, weights, API key), then held open: its end means that the parent is gone
    stdout  one JSON line {"url": …} when it listens on a free loopback port
    stderr  llama.cpp's log

A process of its own, so that a fault in native code or the memory of the model never reaches Agent-0, and a kill of the
parent, even SIGKILL, closes stdin and takes the child along.
"""

import json
import os
import signal
import sys
from typing import Any

import xllamacpp as _native  # without annotations

xllamacpp: Any = _native


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says when to stop
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever native code prints belongs to the log
    asked = json.loads(sys.stdin.readline())
    server = xllamacpp.Server(_params(asked))
    told.write(json.dumps({"url": server.listening_address}) + "\n")
    told.close()
    while sys.stdin.read(4096):
        pass
    os._exit(0)  # nothing to save; llama.cpp's own teardown waits for running requests


def _params(asked: dict[str, Any]) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = asked["weights"]
    params.model_alias = {asked["alias"]}
    params.api_keys = [asked["api_key"]]
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.verbosity = 2  # errors and warnings
    params.ui = False
    params.endpoint_slots = False
    params.cors_origins = "null"  # no web page may call it
    params.n_parallel = asked["parallel"]
    params.n_ctx = asked["parallel"] * asked["context_tokens"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = asked["threads"]
    params.cache_prompt = True
    params.cache_ram_mib = asked["prompt_cache_mib"]
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_Q8_0
    params.n_gpu_layers = 0
    return params


if __name__ == "__main__":
    main()
