"""What outputs mean: scores, previews, predictions and how they are shown; one file for each kind of answer."""

from instar.task.answer.label import LabelAnswer
from instar.task.answer.masked import MaskedAnswer
from instar.task.answer.next_token import NextTokenAnswer

__all__ = ["LabelAnswer", "MaskedAnswer", "NextTokenAnswer"]
