"""How predictions become a loss: weighted terms that return sums; one file each."""

from instar.objective.base import Objective, Outcome, Seen, Watch
from instar.objective.hard import Hard, Judged, judge

Term = Hard

__all__ = ["Hard", "Judged", "Objective", "Outcome", "Seen", "Term", "Watch", "judge"]
