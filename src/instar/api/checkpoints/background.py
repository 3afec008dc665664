"""Writing while training goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """One thread that writes one thing at a time; what goes wrong there is raised where it is waited for.

    The interpreter's exit waits for it.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Begin to write, after what was begun before is done."""
        self.wait()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing = self._pool.submit(write)

    def wait(self) -> None:
        """Return when nothing is being written; raises what the writing raised, once."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Wait, and let the thread go; raises as `wait` does."""
        pool, self._pool = self._pool, None
        try:
            self.wait()
        finally:
            if pool is not None:
                pool.shutdown()
