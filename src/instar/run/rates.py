"""The learning rates of a run, from its schedule alone."""

from dataclasses import dataclass
from pathlib import Path

from instar.model.config import FromFolder
from instar.report.rates import draw_rates
from instar.report.reading import Series
from instar.report.sketch import sketch
from instar.run.begin import Past, looks_back
from instar.run.config import RunConfig
from instar.trainer import TrainState

MOST = 2000
"""Steps whose rates are computed; of a longer run, evenly spread ones."""


@dataclass(frozen=True, kw_only=True)
class RateCurve:
    """Rates of the steps to come, and of the run that they go on from."""

    before: Series
    """Steps are negative: -1 is the checkpoint's last. Empty for a run that looks back at none."""
    after: Series

    @classmethod
    def of(cls, config: RunConfig, state: TrainState) -> "RateCurve":
        """Those of a run at its beginning; steps are taken as equally long."""
        before = Series((), ())
        if looks_back(config) and isinstance(config.model, FromFolder):
            past = Past.of(Path(config.model.path))
            steps = _spread(past.steps)
            before = Series(tuple(step - past.steps for step in steps), tuple(past.rate_of(step) for step in steps))
        total = max(1, round(state.totals["steps"]))
        peak = config.train.optimizer.lr
        shares = {step: (step / total, (step + 1) / total) for step in _spread(total)}
        rates = [peak * state.schedule.factor(*share, state.totals) for share in shares.values()]
        return cls(before=before, after=Series(tuple(shares), tuple(rates)))

    def sketched(self) -> list[str]:
        """A few lines for a terminal, the joint marked."""
        values = [*self.before.values, *self.after.values]
        return sketch(values, joint=len(self.before.values) or None)

    def draw(self, path: Path) -> None:
        """Write it as a picture (.png, .svg) or as a table (.csv)."""
        draw_rates(path, self.before, self.after)


def _spread(total: int) -> list[int]:
    """The steps from 0 to the last, all or MOST of them."""
    if total <= MOST:
        return list(range(total))
    return sorted({round(number * (total - 1) / (MOST - 1)) for number in range(MOST)})
