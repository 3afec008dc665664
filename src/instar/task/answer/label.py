"""A document's label: a class, a set of classes, or a number.

Shape letters: D documents, C classes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.text import Text
from torch import Tensor

from instar import metric
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.inference.base import Ids, Row
from instar.inference.evaluate import Evaluator
from instar.inference.predict import Predictor
from instar.inference.preview import MOST_TOKENS, Preview
from instar.inference.terminal import plain


@dataclass(frozen=True)
class LabelAnswer:
    """The prediction of each document, with probabilities where it is of classes."""

    context: None = None

    def scores(self, evaluator: Evaluator, batches: Iterable[Batch]) -> dict[str, Any]:
        """Scores of classes, sets of classes or numbers, in the order of the samples."""
        samples: list[NDArray[Any]] = []
        labels: list[NDArray[Any]] = []
        logits: list[NDArray[Any]] = []
        for prepared, outputs in evaluator.passes(batches):
            if prepared.target_M is not None:
                samples.append(prepared.samples_D)
                logits.append(outputs.logits_MV().float().cpu().numpy())
                labels.append(prepared.target_M.cpu().numpy())
        samples_D, labels_D, logits_DC = (
            evaluator.gather(np.concatenate(parts) if parts else np.empty(0)) for parts in (samples, labels, logits)
        )
        order_D = np.argsort(samples_D, kind="stable")  # a sum of floats depends on its order
        labels_D, logits_DC = labels_D[order_D], logits_DC[order_D]
        if labels_D.ndim == 2:
            return metric.multi_label_scores(labels_D, logits_DC, evaluator.label_names or ())
        if np.issubdtype(labels_D.dtype, np.floating):
            return metric.regression_scores(labels_D, logits_DC[:, 0])
        return metric.classification_scores(labels_D, logits_DC, evaluator.label_names or ())

    def preview(self, preview: Preview, batch: Batch) -> Iterator[Row]:
        """The text of each document, its label and the prediction."""
        for one in preview.each(batch):
            logits_C = preview.network(one.to(preview.device)).logits_MV()[0].float()
            row: Row = {"kind": "classify", "text": preview.tokenizer.decode(one.ids_T.tolist()[:MOST_TOKENS])}
            found = label_answer(logits_C, preview.label_names, preview.label_kind)
            yield row | found | {"label": _label(one.labels_D, preview.label_names)}

    def line(self, row: Mapping[str, Any]) -> Text:
        """A text, its label, the prediction and its probability."""
        is_right = row.get("label") == row.get("prediction")
        text = Text("  ").append(plain(row.get("text")), style="dim")
        text.append(f"  label {plain(row.get('label'))}, ")
        probability = row.get("probability")
        share = f" ({probability:.2f})" if isinstance(probability, float) else ""
        return text.append(f"predicted {plain(row.get('prediction'))}{share}", style="green" if is_right else "red")

    def targets(self, one: Batch, tokenizer: Tokenizer, names: Sequence[str] | None, most: int) -> Any:
        """The document's label by name."""
        del tokenizer, most
        return _label(one.target_M, names)

    def special_tokens(self, predictor: Predictor) -> Ids:
        return predictor.around_text()

    def segments(self, text: str) -> list[str]:
        return [text]

    def answers(self, predictor: Predictor, batch: Batch) -> Iterator[Row]:
        logits_DC = predictor.network(batch.to(predictor.device)).logits_MV().float().cpu()
        for logits_C in logits_DC:
            yield label_answer(logits_C, predictor.label_names, predictor.label_kind)


def _label(labels_D: Tensor | None, names: Sequence[str] | None) -> Any:
    """The first document's label: a number, a name, or the names of a set."""
    if labels_D is None:
        return None
    label = labels_D[0]
    if names is None:
        return float(label)
    if label.ndim:
        return [name for name, is_set in zip(names, label.tolist(), strict=True) if is_set]
    return names[int(label)]


def label_answer(logits_C: Tensor, label_names: Sequence[str] | None, label_kind: str) -> dict[str, Any]:
    """The prediction by kind: a number; the classes whose probability is above one half; or the likeliest class.

    With classes, also the probability of each; with one class of several, that of the prediction.
    """
    if label_names is None:
        return {"prediction": float(logits_C[0])}
    if label_kind == "many":
        probabilities = torch.sigmoid(logits_C).tolist()
        chosen = [name for name, share in zip(label_names, probabilities, strict=True) if share > 0.5]
        return {"prediction": chosen, "probabilities": dict(zip(label_names, probabilities, strict=True))}
    probabilities_C = torch.softmax(logits_C, dim=-1)
    best = int(probabilities_C.argmax())
    return {
        "prediction": label_names[best],
        "probability": float(probabilities_C[best]),
        "probabilities": dict(zip(label_names, probabilities_C.tolist(), strict=True)),
    }
