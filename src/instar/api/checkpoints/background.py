"""Writing while training goes on."""

from collections.abc import Callable
from threading import Thread


class Background:
    """One thread that writes one thing at a time; what goes wrong there is raised where it is waited for.

    The interpreter's exit waits for it.
    """

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Begin to write, after what was begun before is done; raises what went wrong with that."""
        self.wait()

        def run() -> None:
            try:
                write()
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                self._error = error

        self._thread = Thread(target=run, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being written; raises what the writing raised, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
