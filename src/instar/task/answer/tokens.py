"""What answers about tokens share. Shape letter: M positions where something is predicted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar import metric
from instar.core.errors import DataError
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.inference.evaluate import Evaluator
from instar.metric import Likelihood
from instar.objective import Figure, score_targets
from instar.objective.figures import Mean, Perplexity, correct, entropy, loss, p_true

TOKEN_FIGURES: Mapping[str, Figure] = {
    "accuracy": Mean(correct),
    "perplexity": Perplexity(loss),
    "p_true": Mean(p_true),
    "entropy": Mean(entropy, wants_entropy=True),
}
"""What a training pass says of tokens; p_true: probability of the right token; entropy: of the prediction, in nats."""


@dataclass(frozen=True)
class TokenAnswer:
    """Tokens are predicted: scores are of likelihoods, added up in whole numbers."""

    def scores(self, evaluator: Evaluator, batches: Iterable[Batch]) -> dict[str, Any]:
        """Loss, perplexity and accuracy; what `described` adds."""
        likelihood = Likelihood()
        for prepared, outputs in evaluator.passes(batches):
            if prepared.target_M is not None:
                scored = score_targets(outputs, prepared.target_M)
                likelihood += Likelihood.of(scored.loss_M.cpu(), scored.correct_M.cpu(), self.characters(prepared))
        numbers = evaluator.gather(np.asarray([likelihood.numbers()], dtype=np.int64)).sum(axis=0)
        summed = Likelihood(*numbers.tolist())
        if summed.count == 0:
            raise DataError("evaluation: no token of these documents can be predicted; give more or longer texts")
        return self.named(summed)

    def named(self, summed: Likelihood) -> dict[str, Any]:
        """The scores of the sums, by name."""
        characters = summed.characters or None
        return metric.language_model_scores(summed.nll_sum, summed.correct, summed.count, characters, masked=False)

    def characters(self, prepared: Batch) -> int:
        """Characters of the predicted tokens, where a score is for each character."""
        del prepared
        return 0

    def targets(self, one: Batch, tokenizer: Tokenizer, names: Sequence[str] | None, most: int) -> Any:
        """The target token of each position below `most`."""
        del names
        if one.read_M is None or one.target_M is None:
            return None
        shown = one.read_M < most
        return dict(zip(one.read_M[shown].tolist(), tokenizer.tokens(one.target_M[shown].tolist()), strict=True))

    def segments(self, text: str) -> list[str]:
        """The whole text."""
        return [text]
