"""How predictions become a loss: weighted terms that return sums; one file each."""

from instar.objective.base import Objective, Outcome, Seen, Watch
from instar.objective.hard import Hard, Judged, judge
from instar.objective.watch import Figure, TrainMetric

Term = Hard

__all__ = ["Figure", "Hard", "Judged", "Objective", "Outcome", "Seen", "Term", "TrainMetric", "Watch", "judge"]
