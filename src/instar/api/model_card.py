"""The model card of a training: README.md with metadata that the Hub reads, and tables that people read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instar.api.arguments import TrainingArguments

TAG = "generated_from_trainer"
_KNOWN_METRICS = {
    "accuracy", "bleu", "f1", "matthews_correlation", "pearsonr", "precision", "recall", "rouge", "sacrebleu",
    "spearmanr", "wer",
}  # fmt: skip
_NOT_RESULTS = ("runtime", "samples_per_second", "steps_per_second", "epoch", "step", "model_preparation_time")
_TASKS = {
    "ForCausalLM": ("text-generation", "Causal Language Modeling"),
    "ForMaskedLM": ("fill-mask", "Masked Language Modeling"),
    "ForSequenceClassification": ("text-classification", "Text Classification"),
    "ForTokenClassification": ("token-classification", "Token Classification"),
    "ForQuestionAnswering": ("question-answering", "Question Answering"),
    "ForMultipleChoice": ("multiple-choice", "Multiple Choice"),
    "ForSeq2SeqLM": ("text2text-generation", "Sequence-to-sequence Language Modeling"),
    "ForConditionalGeneration": ("text2text-generation", "Sequence-to-sequence Language Modeling"),
    "ForImageClassification": ("image-classification", "Image Classification"),
    "ForObjectDetection": ("object-detection", "Object Detection"),
    "ForAudioClassification": ("audio-classification", "Audio Classification"),
    "ForCTC": ("automatic-speech-recognition", "Automatic Speech Recognition"),
}
_NAMES_OF_TASKS = dict(_TASKS.values())
_LOCAL_BUILDERS = (None, "csv", "json", "pandas", "parquet", "text", "generator")


@dataclass(kw_only=True)
class CardFacts:
    """What a card says; everything that is not known is left out."""

    model_name: str
    language: Sequence[str] = ()
    license: str | None = None
    tags: Sequence[str] = ()
    finetuned_from: str | None = None
    tasks: Sequence[str] = ()
    dataset: Sequence[str] = ()
    dataset_tags: Sequence[str] = ()
    dataset_args: Sequence[str] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Results by the names that people read, such as `F1` or `Loss`."""
    metric_names: Sequence[str] = ()
    """Metrics that the model was judged by, beyond those results."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    """The state's `log_history`."""


def as_list(value: Any) -> list[str]:
    """None, one text or several, as a list of its own."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def task_of(model: object) -> str | None:
    """The Hub's tag for what a model does, from the name of its class; None where the name does not tell."""
    name = type(model).__name__
    return next((tag for suffix, (tag, _) in _TASKS.items() if name.endswith(suffix)), None)


def datasets_of(*datasets: Any) -> tuple[list[str], list[str]]:
    """(tags, configurations) of the first of these that came from the Hub; empty where none did."""
    for dataset in datasets:
        builder = getattr(dataset, "builder_name", None)
        if builder not in _LOCAL_BUILDERS:
            return [str(builder)], as_list(getattr(dataset, "config_name", None))
    return [], []


def results_of(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The results of the last evaluation in a log, by the names that people read."""
    last: Mapping[str, Any] = next((record for record in reversed(history) if "eval_loss" in record), {})
    return readable_results(last)


def readable_results(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """`eval_matthews_correlation` as `Matthews Correlation`, without times and counters."""
    found = {}
    for name, value in metrics.items():
        short = name.removeprefix("eval_")
        if not short.endswith(_NOT_RESULTS) and "_mem_" not in short:
            found[" ".join(part[:1].upper() + part[1:] for part in short.split("_"))] = value
    return found


def hyperparameters_of(args: "TrainingArguments") -> dict[str, Any]:
    """What was set for the training, as far as it shaped the model."""
    ranks, accumulated = args.world_size, args.gradient_accumulation_steps
    found: dict[str, Any] = {
        "learning_rate": args.learning_rate,
        "train_batch_size": args.train_batch_size,
        "eval_batch_size": args.eval_batch_size,
        "seed": args.seed,
    }
    if ranks > 1:
        found |= {"num_devices": ranks, "total_eval_batch_size": args.eval_batch_size * ranks}
    if accumulated > 1:
        found["gradient_accumulation_steps"] = accumulated
    if ranks * accumulated > 1:
        found["total_train_batch_size"] = args.train_batch_size * ranks * accumulated
    found["optimizer"] = _optimizer(args)
    found["lr_scheduler_type"] = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
    optional = {
        "lr_scheduler_warmup_steps": args.warmup_steps or None,
        "training_steps": args.max_steps if args.max_steps > 0 else None,
        "num_epochs": args.num_train_epochs if args.max_steps <= 0 else None,
        "mixed_precision_training": "fp16" if args.fp16 else "bf16" if args.bf16 else None,
        "label_smoothing_factor": args.label_smoothing_factor or None,
    }
    return found | {name: value for name, value in optional.items() if value is not None}


def _optimizer(args: "TrainingArguments") -> str:
    name = str(getattr(args.optim, "value", args.optim))
    options = args.optim_args or "no further arguments"
    if "adam" not in name.lower():
        return f"{name} with {options}"
    return f"{name} with betas=({args.adam_beta1},{args.adam_beta2}), epsilon={args.adam_epsilon} and {options}"


def write_card(path: Path, facts: CardFacts) -> None:
    """Write the card to `path`; what huggingface_hub reads back from it is what was meant."""
    from huggingface_hub import ModelCard

    from instar.core.files.durable import replace_bytes

    card = ModelCard(f"---\n{_front_matter(facts)}\n---\n\n{_body(facts)}")
    replace_bytes(path, str(card).encode("utf-8"))


def _front_matter(facts: CardFacts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    measured = {
        name.lower().replace(" ", "_"): (name, _plain(value))
        for name, value in facts.metrics.items()
        if name.lower().replace(" ", "_") in _KNOWN_METRICS
    }
    results = [
        EvalResult(
            task_type=task, task_name=_NAMES_OF_TASKS.get(task), dataset_type=tag, dataset_name=name,
            dataset_config=config, metric_type=kind, metric_name=metric, metric_value=value,
        )
        for task in facts.tasks
        for tag, name, config in _datasets(facts)
        for kind, (metric, value) in measured.items()
    ]  # fmt: skip
    data = ModelCardData(
        library_name="transformers",
        language=list(facts.language) or None,
        license=facts.license,
        base_model=facts.finetuned_from,
        tags=list(facts.tags),
        datasets=list(facts.dataset_tags) or None,
        metrics=list(dict.fromkeys([*measured, *facts.metric_names])) or None,
        pipeline_tag=facts.tasks[0] if len(facts.tasks) == 1 else None,
        model_name=facts.model_name if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _datasets(facts: CardFacts) -> list[tuple[str, str, str | None]]:
    configs = [*facts.dataset_args, *[None] * len(facts.dataset_tags)]
    names = [*facts.dataset, *facts.dataset_tags[len(facts.dataset) :]]
    return [(tag, names[place], configs[place]) for place, tag in enumerate(facts.dataset_tags)]


def _body(facts: CardFacts) -> str:
    origin = "This model was trained from scratch"
    if facts.finetuned_from:
        url = f"https://huggingface.co/{facts.finetuned_from}"
        origin = f"This model is a fine-tuned version of [{facts.finetuned_from}]({url})"
    data = facts.dataset or facts.dataset_tags
    names = " and ".join(data) if len(data) < 3 else f"{', '.join(data[:-1])} and {data[-1]}"
    source = f"the {names} dataset{'s' if len(data) > 1 else ''}" if data else "a dataset that is not named"
    parts = [
        "<!-- Written by the Trainer from what it knows; complete it before you rely on it. -->",
        f"# {facts.model_name}",
        f"{origin} on {source}.",
    ]
    if facts.metrics:
        parts += ["Results on the evaluation set:", _bullets(facts.metrics)]
    for title in ("Model description", "Intended uses and limitations", "Training and evaluation data"):
        parts += [f"## {title}", "More information needed"]
    parts += ["## Training procedure", "### Training hyperparameters"]
    parts.append(_bullets(facts.hyperparameters) if facts.hyperparameters else "More information needed")
    if table := _table(list(_evaluations(facts.history))):
        parts += ["### Training results", table]
    parts += ["### Framework versions", _bullets(_versions())]
    return "\n\n".join(parts) + "\n"


def _evaluations(history: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    training_loss: Any = "No log"
    for record in history:
        training_loss = record.get("loss", training_loss)
        if "eval_loss" in record:
            results = readable_results(record)
            yield {
                "Training Loss": training_loss,
                "Epoch": record.get("epoch", ""),
                "Step": record.get("step", ""),
                "Validation Loss": results.pop("Loss"),
                **results,
            }


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[_cell(name) for name in columns], *([_cell(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return (
        "\n".join([texts[0], "|" + "|".join(f":{'-' * width}:" for width in widths) + "|", *texts[1:]]) if rows else ""
    )


def _bullets(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {_cell(value)}" for name, value in values.items())


def _cell(value: Any) -> str:
    value = _plain(value)
    text = (
        f"{value:.4f}"
        if isinstance(value, float) and len(repr(value).rpartition(".")[2]) > 4 and abs(value) >= 1e-4
        else str(value)
    )
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(value: Any) -> Any:
    item = getattr(value, "item", None)
    return (
        item() if callable(item) else float(value) if isinstance(value, Real) and not isinstance(value, int) else value
    )


def _versions() -> dict[str, str]:
    found = {}
    for name, package in (
        ("instar", "instar"), ("Transformers", "transformers"), ("PyTorch", "torch"), ("Datasets", "datasets"),
        ("Tokenizers", "tokenizers"),
    ):  # fmt: skip
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
