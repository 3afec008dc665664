"""How predictions become a loss: weighted terms that return sums; one file each."""

from instar.objective.base import (
    Figure,
    ForwardPass,
    Needs,
    Objective,
    Outcome,
    TargetScores,
    Term,
    TermConfig,
    Watch,
    named_terms,
    score_targets,
)
from instar.objective.hard import Hard

AnyTerm = Hard

__all__ = [
    "AnyTerm",
    "Figure",
    "ForwardPass",
    "Hard",
    "Needs",
    "Objective",
    "Outcome",
    "TargetScores",
    "Term",
    "TermConfig",
    "Watch",
    "named_terms",
    "score_targets",
]
