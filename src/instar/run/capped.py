"""What a run file asks for and does not get in full, told once; the run goes on with what there is."""

from collections.abc import Iterator, Mapping

import numpy as np

from instar.core.budget import Budget
from instar.data.samples import Samples
from instar.run.config import RunConfig

_COUNTED = 1 << 20
"""Samples whose lengths are looked at."""


def capped(config: RunConfig, train: Samples, totals: Mapping[str, float]) -> Iterator[str]:
    """A line for each span of the schedule that is longer than the run, and one for samples over `batch_tokens`."""
    schedule = config.train.schedule
    for name in ("warmup", "decay", "timescale", "over", "cooldown", "anneal"):
        span = getattr(schedule, name, None)
        if isinstance(span, Budget) and span.amount > totals[span.unit] * (1 + 1e-9):
            there = f"about {totals[span.unit]:,.0f} {span.unit}"
            yield f"train.schedule.{name}: {span} are more than the run has ({there}); it takes the whole run"
    yield from _too_long(train, config.train.batch_tokens)


def _too_long(train: Samples, batch_tokens: int | None) -> Iterator[str]:
    if batch_tokens is None or (train.cut.max_length is not None and train.cut.max_length <= batch_tokens):
        return
    looked_at = min(len(train), _COUNTED)
    length_N = train.lengths(np.arange(looked_at, dtype=np.int64))
    count = int((length_N > batch_tokens).sum())
    if count:
        of = f"{looked_at:,}" if looked_at == len(train) else f"the first {looked_at:,}"
        yield (
            f"train.batch_tokens: {count:,} of {of} samples are longer than {batch_tokens:,} tokens (the longest has "
            f"{int(length_N.max()):,}); each of them makes a step alone"
        )
