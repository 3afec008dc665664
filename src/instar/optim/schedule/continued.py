"""The schedule of the checkpoint's own run, as if it had never ended."""

from collections.abc import Mapping
from typing import Any, Literal

from instar.config import Config
from instar.core.budget import Budget
from instar.optim.schedule.base import Rates


class Before(Config):
    """What the run of a checkpoint had come to."""

    schedule: dict[str, Any]
    """Its schedule."""
    budget: str
    """Its budget, like "2000 steps"."""
    spent: float
    """How much of that was spent, in the budget's unit."""
    totals: dict[str, float]
    """How long it was in each unit."""


class Continued(Rates):
    """Goes on where the checkpoint's run left off, bit for bit the rates that it would have had itself.

    After the end of that run's budget the rate stays at its last value. Also spelled `continue`.
    """

    kind: Literal["continued"] = "continued"
    before: Before | None = None
    """Filled in from the checkpoint that the run begins from."""

    def factor(self, before: float, after: float, totals: Mapping[str, float]) -> float:
        past, inner = self._past()
        return inner.factor(self._progress(past, before, totals), self._progress(past, after, totals), past.totals)

    def decay_begins(self, totals: Mapping[str, float]) -> float | None:
        past, inner = self._past()
        begins, budget = inner.decay_begins(past.totals), Budget.parse(past.budget)
        if begins is None or begins * budget.amount < past.spent:
            return None
        share = (begins * budget.amount - past.spent) / totals[budget.unit]
        return share if share < 1 else None

    def _past(self) -> tuple[Before, Rates]:
        from instar.optim.schedule import read_schedule

        if self.before is None:
            raise ValueError("a schedule that continues needs what came before it")
        return self.before, read_schedule(self.before.schedule)

    @staticmethod
    def _progress(past: Before, share: float, totals: Mapping[str, float]) -> float:
        """Share of the first run's budget, in the very numbers that it would have counted itself."""
        budget = Budget.parse(past.budget)
        amount = share * totals[budget.unit]
        if budget.unit != "epochs" and abs(amount - round(amount)) < 1e-6:
            amount = round(amount)
        return (past.spent + amount) / budget.amount
