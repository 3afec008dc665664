"""Several processes, as they are shared best without a word."""

from typing import Literal

from instar.trainer.parallel.several import Several


class Auto(Several):
    """One process: nothing to share. Several: as `ddp` with its defaults."""

    kind: Literal["auto"] = "auto"
