"""Every client in this process. Messages are packed and unpacked on the way: no client touches the server's arrays."""

import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any

from flwr.app import Context, Message

from foa.errors import JobCancelled
from foa.fl.flower import CRASHED, ClientAppCallable, RunGrid, begin, failure, pack, stamp, unpack
from foa.values.ids import JobId


class InProcessGrid(RunGrid):
    """A Grid over client apps in threads. Use it as a context manager.

    Replies come back in the order of the messages, so that sums of floats are the same on every Grid.
    """

    def __init__(self, apps: Mapping[int, tuple[ClientAppCallable, Context]], *, workers: int = 2, run: str = "run") -> None:
        """Make a Grid.

        Args:
            apps: for each node its app and its context; apps may be one object.
            workers: threads.
            run: name of the run, for errors.
        """
        begin()
        self._apps = dict(apps)
        self._locks = {node: threading.Lock() for node in apps}
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="fl-client")
        self._pending: dict[str, Future[Message]] = {}
        self._cancelled: Future[None] = Future()
        self._run_name = run

    def get_node_ids(self) -> Iterable[int]:
        """All nodes, sorted.

        Raises:
            JobCancelled: somebody called `cancel`.
        """
        if self._cancelled.done():
            raise JobCancelled(JobId(self._run_name))
        return sorted(self._apps)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Start work on each; gives the ids to pull with."""
        found = list[str]()
        for message in messages:
            if self._cancelled.done():
                raise JobCancelled(JobId(self._run_name))
            found.append(stamp(message))
            self._pending[found[-1]] = self._threads.submit(self._handle, pack(message))
        return found

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """What is done of these."""
        done = [i for i in message_ids if (future := self._pending.get(i)) is not None and future.done()]
        return [self._pending.pop(i).result() for i in done]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send all, wait for all or for the timeout, seconds.

        Raises:
            JobCancelled: somebody called `cancel`.
        """
        ids = list(self.push_messages(messages))
        open_futures: set[Future[Any]] = {self._pending[i] for i in ids}
        end = None if timeout is None else time.monotonic() + timeout
        # a client that is late is left behind: its thread ends by itself and nobody reads the reply
        while open_futures:
            left = None if end is None else max(0.0, end - time.monotonic())
            done, _ = wait(open_futures | {self._cancelled}, timeout=left, return_when=FIRST_COMPLETED)
            if self._cancelled.done():
                for future in open_futures:
                    future.cancel()
                raise JobCancelled(JobId(self._run_name))
            if not done:
                break
            open_futures -= done
        found = [self._pending.pop(i) for i in ids]
        for future in found:
            future.cancel()
        return [future.result() for future in found if future.done() and not future.cancelled()]

    def _handle(self, payload: bytes) -> Message:
        message = unpack(payload)
        node = message.metadata.dst_node_id
        known = self._apps.get(node)
        if known is None:
            reply = failure(message, CRASHED, f"no node {node}")
        else:
            with self._locks[node]:
                reply = run_app(known[0], message, known[1])
        stamp(reply)
        return unpack(pack(reply))

    def cancel(self) -> None:
        """Make the waiting `send_and_receive`, and every later one, raise JobCancelled. From any thread."""
        if not self._cancelled.done():
            self._cancelled.set_result(None)

    def __enter__(self) -> "InProcessGrid":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)


def run_app(app: ClientAppCallable, message: Message, context: Context) -> Message:
    """Let a client app answer; whatever it raises becomes an error reply, for the server has to go on without it."""
    try:
        return app(message, context)
    except Exception as error:  # noqa: BLE001  a user's code: anything may come
        return failure(message, CRASHED, f"{type(error).__name__}: {error}")
