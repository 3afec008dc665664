"""A process that `torchrun` starts: it carries out commands alone, and then forks the ranks of the same commands.

So everything is imported once. The ranks meet through the store that `torchrun` keeps.
"""

import atexit
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

Command = dict[str, Any]
"""`name`; `alone`: arguments for one process, or null; `arguments`: those for `world` ranks; `odd`: those of the last
rank, or null; `fails_on`, `killed_on`: the rank that does so."""


def main() -> None:
    """The argument is a JSON file, a list of commands; what they print is written beside it."""
    place = Path(sys.argv[1])
    import torch.distributed

    from instar.tracks import probe

    torch.set_num_threads(1)
    probe.EVALUATION_TOKENS = 64  # several batches
    for number, command in enumerate(json.loads(place.read_text())):
        stem = place.with_name(command["name"])
        if command["alone"] is not None:
            _carry_out(Path(f"{stem}-alone"), command["alone"])
        children = [os.fork() or _rank(stem, rank, number, command) for rank in range(command["world"])]
        for rank, child in enumerate(children):
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            Path(f"{stem}-{rank}.code").write_text(str(code))


def _rank(stem: Path, rank: int, number: int, command: Command) -> NoReturn:
    """One rank, with a life of its own in the store."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(command["world"]),
        "TORCHELASTIC_RESTART_COUNT": str(number),
    }
    if rank in (command["fails_on"], command["killed_on"]):
        _end_in_the_network(is_killed=rank == command["killed_on"])
    arguments = command["odd"] if command["odd"] and rank == command["world"] - 1 else command["arguments"]
    code = _carry_out(Path(f"{stem}-{rank}"), arguments)
    atexit._run_exitfuncs()
    os._exit(code)


def _carry_out(stem: Path, arguments: list[str]) -> int:
    """One command line; its output and errors go to files."""
    from instar.cli import main as instar

    kept = os.dup(1), os.dup(2)
    for stream, ending in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{stem}.{ending}", os.O_CREAT | os.O_WRONLY), stream)
    try:
        instar(arguments)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(kept[0], 1)
    os.dup2(kept[1], 2)
    return code


def _end_in_the_network(*, is_killed: bool) -> None:
    from instar.core.errors import DataError
    from instar.model import Network

    def ending(self: Network, *given: Any, **named: Any) -> Any:
        if is_killed:
            os.kill(os.getpid(), signal.SIGKILL)
        raise DataError("this process cannot go on")

    Network.forward = ending  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
