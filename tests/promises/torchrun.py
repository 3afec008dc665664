"""A rank that `torchrun` starts: `instar ...` that is killed, or asked to leave, at a step of one of its lives."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """The argument is a JSON file: a command line, events [life, step, rank, signal, whom], and where to say when."""
    started = time.time()
    job = json.loads(Path(sys.argv[1]).read_text())
    life, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])

    from instar import cli
    from instar.run import prepare
    from instar.trainer.callbacks.signals import Signals

    prepare.PREVIEW_ROWS = 1
    stepped = Signals.step_ended

    def told(self: Signals, state: Any, result: Any) -> None:
        _say(job, {"life": life, "rank": rank, "step": state.step, "started": started, "time": time.time()})
        for when in job["events"]:
            if when[:3] == [life, state.step, rank]:
                os.kill(os.getpid() if when[4] == "self" else os.getppid(), when[3])
                _wait_until_asked(self)
        stepped(self, state, result)

    Signals.step_ended = told  # type: ignore[method-assign]
    leave = os._exit

    def left(code: int) -> None:
        _say(job, {"life": life, "rank": rank, "code": code, "time": time.time()})
        leave(code)

    os._exit = left  # type: ignore[assignment]
    cli.main(job["arguments"])


def _wait_until_asked(signals: Any) -> None:
    """Until torchrun has handed the signal on, to this rank and then to the others."""
    end = time.monotonic() + 900
    while signals.asked is None and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(1)


def _say(job: dict[str, Any], what: dict[str, Any]) -> None:
    with Path(job["said"]).open("a") as file:
        file.write(json.dumps(what) + "\n")


if __name__ == "__main__":
    main()
