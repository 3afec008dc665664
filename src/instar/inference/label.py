"""A classifier's answer about one document.

Shape letters: C classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def label_answer(logits_C: Tensor, label_names: Sequence[str] | None, label_kind: str) -> dict[str, Any]:
    """The prediction by kind: a number; the classes whose chance is above one half; or the likeliest class.

    With classes, also the probability of each; with one class of several, that of the prediction.
    """
    if label_names is None:
        return {"prediction": float(logits_C[0])}
    if label_kind == "many":
        chances = torch.sigmoid(logits_C).tolist()
        chosen = [name for name, chance in zip(label_names, chances, strict=True) if chance > 0.5]
        return {"prediction": chosen, "probabilities": dict(zip(label_names, chances, strict=True))}
    chances_C = torch.softmax(logits_C, dim=-1)
    best = int(chances_C.argmax())
    return {
        "prediction": label_names[best],
        "probability": float(chances_C[best]),
        "probabilities": dict(zip(label_names, chances_C.tolist(), strict=True)),
    }
