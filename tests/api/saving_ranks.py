"""A rank of `torchrun`: trains with DDP, goes on from its checkpoint with FSDP, and says what it saw."""

import json
import sys
from pathlib import Path

from instar import Trainer
from tests.api.saving_parts import bert, make, mask_evenly


def small(folder: Path, *, rows: int, **changes: object) -> Trainer:
    """6 steps of 4 rows, with a checkpoint after the third; nothing in it is drawn by chance."""
    wanted = {"gradient_accumulation_steps": 1, "save_steps": 3, "logging_steps": 1, "max_steps": 6}
    return make(
        folder,
        bert(dropout=0.0),
        collator=mask_evenly,
        fast_path=False,
        per_device_train_batch_size=rows,
        **{**wanted, **changes},
    )


def losses(trainer: Trainer) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def main(folder: Path) -> None:
    first = small(folder / "ddp", rows=2)
    first.train()
    best = {"eval_strategy": "steps", "eval_steps": 3, "load_best_model_at_end": True}
    second = small(folder / "fsdp", rows=2, fsdp=True, async_save=True, **best)
    second.train(resume_from_checkpoint=str(folder / "ddp" / "checkpoint-3"))
    second.save_model()
    if second.is_world_process_zero():
        told = {"ddp": losses(first), "fsdp": losses(second), "best": second.state.best_model_checkpoint}
        (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
