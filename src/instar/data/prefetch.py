"""Prepare what comes next while the present step computes."""

import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
_POLL_SECONDS = 0.1


class Prefetch(Generic[Item]):
    """The items of an iterator, unchanged and in order, up to `ahead` of them made early by a thread.

    With `ahead` 0 there is no thread. An exception of the iterator comes out in its place.
    `close`, or leaving the `with` block, ends the thread and waits for it.
    """

    def __init__(self, items: Iterator[Item], ahead: int) -> None:
        if ahead < 0:
            raise ValueError(f"ahead must be 0 or more; got {ahead}")
        self._items = items
        self._ready: queue.Queue[tuple[str, Item | BaseException | None]] = queue.Queue(maxsize=max(1, ahead))
        self._stop = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None
        if ahead:
            self._thread = threading.Thread(
                target=_fill, args=(items, self._ready, self._stop), name="instar-prefetch", daemon=True
            )
            self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self._ended:
            raise StopIteration
        if self._thread is None:
            return next(self._items)
        what, value = self._ready.get()
        if what == "item":
            return value  # type: ignore[return-value]
        self.close()
        if isinstance(value, BaseException):
            raise value
        raise StopIteration

    def close(self) -> None:
        """End the thread; nothing comes any more."""
        self._ended = True
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        close = getattr(self._items, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> "Prefetch[Item]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fill(
    items: Iterator[Item], ready: "queue.Queue[tuple[str, Item | BaseException | None]]", stop: threading.Event
) -> None:
    def put(what: str, value: Item | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put((what, value), timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    try:
        for item in items:
            if not put("item", item):
                return
    except BaseException as error:  # noqa: BLE001 (it is raised again where the items are used)
        put("error", error)
        return
    put("end", None)
