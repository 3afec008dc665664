"""Which scores are single numbers, by what is predicted; a run may watch any of them."""

_NAMES = {
    "mlm": ("loss", "perplexity", "masked_accuracy"),
    "causal_lm": ("loss", "perplexity", "accuracy", "bits_per_character"),
    "class": ("loss", "accuracy", "f1", "f1_macro", "matthews"),
    "many": ("loss", "accuracy", "f1", "f1_micro"),
    "multi_hot": ("loss", "accuracy", "f1", "f1_micro"),
    "number": ("loss", "mean_absolute_error", "pearson", "spearman"),
}


def score_names(task: str, label_kind: str) -> tuple[str, ...]:
    """Names of a task's scores; a classifier's depend on the kind of its labels (class, many, multi_hot or number)."""
    return _NAMES[label_kind if task == "classify" else task]
