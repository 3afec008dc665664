"""What scoring, showing and using a network needs of a task; each kind of task is a file of `task`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rich.text import Text

from instar.core import seeds
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.model import Head

if TYPE_CHECKING:
    from instar.inference.evaluate import Evaluator
    from instar.inference.predict import Predictor
    from instar.inference.preview import Preview
    from instar.masking import Policy
    from instar.masking.base import Chosen

Row = dict[str, Any]
Ids = tuple[list[int], list[int]]
"""Special tokens before and after a text."""


@dataclass(frozen=True)
class StepContext:
    """The step that a batch is prepared for; names the batch's randomness."""

    seed: int
    step: int
    progress: float
    """Share of the budget spent, 0 to 1."""
    evaluating: bool = False
    """True: targets are the same at every step, so that scores can be compared."""

    @classmethod
    def of_evaluation(cls, seed: int) -> "StepContext":
        """The context in which held-out data are prepared."""
        return cls(seed=seed, step=0, progress=1.0, evaluating=True)

    def key(self, purpose: str) -> int:
        """Seed of the draws of one purpose in this step."""
        if self.evaluating:
            return seeds.derive(self.seed, "evaluate", purpose)
        return seeds.derive(self.seed, purpose, self.step)


class Answer(Protocol):
    """What a network's outputs mean for a task: scores, previews, predictions, and how they are shown."""

    @property
    def context(self) -> Literal["both", "left"] | None:
        """Neighbors from which a token is predicted, which the baseline may count; None: labels are predicted."""
        ...

    def scores(self, evaluator: "Evaluator", batches: Iterable[Batch]) -> dict[str, Any]:
        """Scores from sums and counts, the same at every batch size and number of ranks."""
        ...

    def preview(self, preview: "Preview", batch: Batch) -> Iterator[Row]:
        """A row of samples.jsonl for each document: strings and numbers, with the task's `kind`."""
        ...

    def line(self, row: Mapping[str, Any]) -> Text:
        """A row of a preview as a line or two for a terminal, readable without its colors."""
        ...

    def targets(self, one: Batch, tokenizer: Tokenizer, names: Sequence[str] | None, most: int) -> Any:
        """What is predicted of one prepared document: its label, or targets by position below `most`."""
        ...

    def special_tokens(self, predictor: "Predictor") -> Ids:
        """Special tokens before and after a text, as in training."""
        ...

    def segments(self, text: str) -> list[str]:
        """The parts of a text between which a mask token stands; most tasks have one."""
        ...

    def answers(self, predictor: "Predictor", batch: Batch) -> Iterator[Row]:
        """The answer about each document of a packed batch, in order."""
        ...


class TaskLike(Protocol):
    """Decides what to predict, for one whole optimizer step at a time. It computes no loss."""

    @property
    def head(self) -> Head:
        """The head that it needs."""
        ...

    @property
    def answer(self) -> Answer:
        """What outputs mean."""
        ...

    @property
    def policy(self) -> "Policy | None":
        """Chooses the tokens to mask; None: nothing is masked."""
        ...

    @property
    def chosen(self) -> "Chosen | None":
        """What the newest training step predicts, of a policy that learns from it."""
        ...

    def prepare(self, batch: Batch, context: StepContext) -> Batch:
        """The batch with its inputs changed where need be, `read_M` and `target_M`.

        A function of the batch's samples and the context: neither micro-batches nor ranks
        can change it. Raises DataError if nothing in it can be predicted, but not in evaluation:
        there a batch may be as small as one document, and its targets may be none.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What the task has learnt about its data, for a checkpoint."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...
