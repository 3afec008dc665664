"""Masked tokens and what the network fills in.

Shape letters: M masked positions, V vocabulary, K best answers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from rich.text import Text

from instar import metric
from instar.data import Batch
from instar.inference.base import Ids, Row, StepContext
from instar.inference.predict import Predictor
from instar.inference.preview import MOST_TOKENS, Preview
from instar.inference.terminal import MOST_CHARACTERS, plain
from instar.metric import Likelihood
from instar.report.samples import filled_text
from instar.task.answer.tokens import TokenAnswer

MASK_WORD = "[MASK]"


@dataclass(frozen=True)
class MaskedAnswer(TokenAnswer):
    """The best fills of each masked token."""

    context: Literal["both"] = "both"

    def named(self, summed: Likelihood) -> dict[str, Any]:
        return metric.language_model_scores(summed.nll_sum, summed.correct, summed.count, None, masked=True)

    def preview(self, preview: Preview, batch: Batch) -> Iterator[Row]:
        """Tokens of each document, with a guess and its probability where one was masked."""
        for one in preview.each(batch):
            prepared = preview.task.prepare(one, StepContext.of_evaluation(preview.seed)).to(preview.device)
            best = torch.softmax(preview.network(prepared).logits_MV().float(), dim=-1).max(dim=-1)
            index_M = [] if prepared.read_M is None else prepared.read_M.tolist()
            guesses = dict(zip(index_M, zip(best.values.tolist(), best.indices.tolist(), strict=True), strict=True))
            yield {"kind": "mlm", "tokens": list(_tokens(preview, one, guesses))}

    def line(self, row: Mapping[str, Any]) -> Text:
        """A masked token that was guessed right: [guess]; wrong: [guess, not token]."""
        text = Text("  ")
        for token in filled_text(dict(row)).tokens:
            if len(text) > MOST_CHARACTERS:
                return text.append(" …")
            text.append(" " if token.gap else "")
            if token.outcome == "given":
                text.append(plain(token.text), style="dim")
            elif token.outcome == "right":
                text.append(f"[{plain(token.guess)}]", style="green")
            else:
                text.append(f"[{plain(token.guess)}", style="red")
                text.append(f", not {plain(token.text)}]", style="yellow")
        return text

    def special_tokens(self, predictor: Predictor) -> Ids:
        return predictor.around_text()

    def segments(self, text: str) -> list[str]:
        """What lies between the words [MASK]."""
        return text.split(MASK_WORD)

    def answers(self, predictor: Predictor, batch: Batch) -> Iterator[Row]:
        """Each text filled with the best tokens, and the best few of each mask token."""
        tokenizer = predictor.tokenizer
        read_M = (batch.ids_T == predictor.special("mask_id")).nonzero()[:, 0]
        outputs = predictor.network(batch.to(predictor.device).reading(read_M.to(predictor.device)))
        probabilities_MV = torch.softmax(outputs.logits_MV().float(), dim=-1)
        best = probabilities_MV.topk(min(predictor.best, tokenizer.vocab_size), dim=-1)
        probabilities_MK, ids_MK = best.values.cpu(), best.indices.cpu()
        for first, last in zip(batch.boundaries[:-1], batch.boundaries[1:], strict=True):
            ids = batch.ids_T[first:last].clone()
            mine = ((read_M >= first) & (read_M < last)).nonzero()[:, 0]
            ids[read_M[mine] - first] = ids_MK[mine, 0]
            fills = [
                [
                    {"token": token, "probability": probability}
                    for token, probability in zip(
                        tokenizer.tokens(ids_MK[at].tolist()), probabilities_MK[at].tolist(), strict=True
                    )
                ]
                for at in mine.tolist()
            ]
            yield {"filled": tokenizer.decode(ids.tolist()), "fills": fills}


def _tokens(preview: Preview, one: Batch, guesses: Mapping[int, tuple[float, int]]) -> Iterator[Row]:
    tokenizer = preview.tokenizer
    ids = one.ids_T.tolist()[:MOST_TOKENS]
    for index, (number, text) in enumerate(zip(ids, tokenizer.tokens(ids), strict=True)):
        if number in tokenizer.special_ids:
            continue
        token: Row = {"text": text, "masked": index in guesses}
        if index in guesses:
            probability, guess = guesses[index]
            found = {"guess": tokenizer.tokens([guess])[0], "probability": probability, "right": guess == number}
            token |= found
        yield token
