"""What every task's config says, and the base of tasks that learn nothing about their data."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from instar.config import Config
from instar.data.tokenizer import Tokenizer
from instar.inference.base import Answer, TaskLike
from instar.masking import Policy
from instar.masking.base import Chosen
from instar.model import Head, Pooling
from instar.objective import Figure


class TaskConfig(Config):
    """The values of a run file's task, and the facts of its kind."""

    head: ClassVar[Head]
    does: ClassVar[str]
    """What a model of this task does, after "a model that"."""
    reads_forward: ClassVar[bool] = False
    """Whether the network sees what is to the left only: texts then have an end token alone."""
    learns_labels: ClassVar[bool] = False
    learns_completions: ClassVar[bool] = False
    """Whether a source's `completion` column is learnt."""
    masks: ClassVar[bool] = False
    """Whether tokens are masked by a policy, and predicted."""

    kind: str

    @abstractmethod
    def build(self, tokenizer: Tokenizer) -> TaskLike:
        """The task on this vocabulary; ConfigError where the tokenizer does not fit."""

    @abstractmethod
    def score_names(self, label_kind: str) -> tuple[str, ...]:
        """Scores that are single numbers, which a run may watch; those of labels depend on their kind."""

    def num_outputs(self, of_labels: int | None) -> int | None:
        """Outputs of a head of whole documents, where `of_labels` are what the data's labels need; None: of tokens."""
        del of_labels
        return None

    def figures(self, label_kind: str, num_classes: int) -> Mapping[str, Figure]:
        """Scores that a training pass can give, by name: those that are made of sums over the targets; here none."""
        del label_kind, num_classes
        return {}

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes in order, where the run file gives them."""
        return None

    @property
    def masking_rate(self) -> float | None:
        """Share of the tokens that are masked in evaluation; None: none are."""
        return None

    @property
    def masking_shares(self) -> tuple[float, float]:
        """Of the chosen tokens, the share that shows the mask token, and the share that shows a random one."""
        return 1.0, 0.0

    @property
    def head_pooling(self) -> Pooling | None:
        """What a head of whole documents reads; None: as usual for the network's family."""
        return None


class FixedTask:
    """Base of tasks that learn nothing about their data."""

    head: Head
    answer: Answer
    policy: Policy | None = None
    chosen: Chosen | None = None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state; got {sorted(state)}")
