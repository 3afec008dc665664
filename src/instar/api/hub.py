"""Publishing to the Hub: the repository, the model card, the model at the end and checkpoints on the way."""

import logging
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from transformers.trainer_utils import HubStrategy, SaveStrategy

from instar.api import model_card
from instar.api.base import TrainerParts
from instar.api.publishing import (
    NOT_PUBLISHED,
    TRAINING_STATE,
    PushInProgress,
    StagedPush,
    stage,
    unreachable,
    upload,
)
from instar.core.files.temporary import remove

_log = logging.getLogger(__name__)


class Hub(TrainerParts):
    """Publishing to the Hub. Where it cannot be reached, training goes on and a notice says how to publish later."""

    push_in_progress: PushInProgress | None = None
    _said_unreachable: bool = False

    @cached_property
    def _hub(self) -> Any:
        from huggingface_hub import HfApi

        from instar import __version__

        return HfApi(library_name="instar", library_version=__version__)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository (`hub_model_id`, or the output folder's name) unless it is there; main process only.

        Where the Hub cannot be reached nothing is made, and the next push tries again.
        """
        if not self.is_world_process_zero():
            return
        args = self.args
        name = args.hub_model_id or Path(str(args.output_dir)).absolute().name
        try:
            self.hub_model_id = self._make_repository(name, token, private)
        except unreachable() as error:
            self._say_unreachable(f"the repository {name} was not made: {_reason(error)}; the next push tries again")

    def _make_repository(self, name: str, token: str | None, private: bool | None) -> str:
        made = self._hub.create_repo(
            name,
            token=token if token is not None else self.args.hub_token,
            private=private if private is not None else self.args.hub_private_repo,
            exist_ok=True,
        )
        return str(made.repo_id)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        *,
        repo_id: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Save the model, write its card (`kwargs` go to `create_model_card`) and upload the output folder.

        Gives the commit, or its Future unless `blocking`; None on processes that do not publish. Where the Hub cannot
        be reached the folder is complete all the same: a `StagedPush` is given, and its command is said. `repo_id`
        is a repository for this push and those after it, instead of `hub_model_id`.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        name = repo_id or getattr(self, "hub_model_id", None) or self.args.hub_model_id
        name = name or Path(str(self.args.output_dir)).absolute().name
        kwargs.setdefault("model_name", name.rpartition("/")[2])
        if model_tags := getattr(self.model, "model_tags", None):
            tags = model_card.as_list(kwargs.get("tags"))
            kwargs["tags"] = [*tags, *(tag for tag in model_tags if tag not in tags)]
        self.create_model_card(**kwargs)
        self._finish_current_push()

        message = commit_message or "End of training"
        revision = revision if revision is not None else self.args.hub_revision
        work = partial(self._upload_output_dir, name, message, token, revision, private, is_new=repo_id is not None)
        if blocking:
            return work()
        self.push_in_progress = PushInProgress()
        return self.push_in_progress.start(work)

    def _upload_output_dir(
        self, name: str, message: str, token: str | None, revision: str | None, private: bool | None, *, is_new: bool
    ) -> Any:
        folder = Path(str(self.args.output_dir))
        try:
            if is_new or getattr(self, "hub_model_id", None) is None:
                self.hub_model_id = name = self._make_repository(name, token, private)
            token = token if token is not None else self.args.hub_token
            return upload(self._hub, folder, name, message, ignore=NOT_PUBLISHED, token=token, revision=revision)
        except unreachable() as error:
            is_private = private if private is not None else self.args.hub_private_repo
            staged = StagedPush(
                repo_id=name,
                folder=folder.absolute(),
                commit_message=message,
                reason=_reason(error),
                private=is_private,
                revision=revision,
            )
            _log.warning("%s", staged)
            return staged

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Upload a checkpoint's model in the background as `hub_strategy` says; main process only.

        Left out while the upload before it is under way, unless `hub_always_push`. What is uploaded is the
        checkpoint as it is now, even if it is deleted meanwhile.
        """
        strategy = HubStrategy(self.args.hub_strategy)
        if not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        current = self.push_in_progress
        if current is not None and not current.is_done() and not self.args.hub_always_push:
            return
        if getattr(self, "hub_model_id", None) is None:
            self.init_hf_repo()
            if getattr(self, "hub_model_id", None) is None:
                return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if current is None or current.is_done():
            self._finish_current_push()
            current = self.push_in_progress = PushInProgress()
        folder = Path(checkpoint_folder)
        copy = stage(folder, folder.parent / f"_push-{folder.name}")
        in_steps = self.args.save_strategy == SaveStrategy.STEPS
        when = f"step {self.state.global_step}" if in_steps else f"epoch {int(self.state.epoch or 0)}"
        in_repo = {HubStrategy.CHECKPOINT: "last-checkpoint", HubStrategy.ALL_CHECKPOINTS: folder.name}.get(strategy)
        current.start(partial(self._upload_staged, copy, f"Training in progress, {when}", in_repo))

    def _upload_staged(self, copy: Path, message: str, path_in_repo: str | None) -> None:
        send = partial(upload, self._hub, copy, str(self.hub_model_id))
        access: dict[str, Any] = {"token": self.args.hub_token, "revision": self.args.hub_revision}
        try:
            send(message, ignore=TRAINING_STATE, **access)
            if path_in_repo is not None:
                send(f"{message}, checkpoint", path_in_repo=path_in_repo, **access)
        except unreachable() as error:
            self._say_unreachable(f"checkpoints are not uploaded: {_reason(error)}; they stay in {copy.parent}")
        finally:
            remove(copy)

    def _finish_current_push(self) -> None:
        """Wait for uploads in the background; what went wrong in them is said."""
        if self.push_in_progress is not None:
            self.push_in_progress.wait_until_done()
            self.push_in_progress = None

    def _say_unreachable(self, text: str) -> None:
        if not self._said_unreachable:
            _log.warning("%s", text)
        self._said_unreachable = True

    def create_model_card(
        self,
        language: str | list[str] | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
        *,
        dataset_name: str | list[str] | None = None,
        metrics: Mapping[str, Any] | list[str] | str | None = None,
    ) -> None:
        """Write README.md into the output folder from what is given and what is known; main process only.

        `dataset_name` is another word for `dataset`. `metrics` are results to show (default: those of the last
        evaluation), or names of metrics. Tags of a card that lies there already are kept.
        """
        if not self.is_world_process_zero():
            return
        folder = Path(str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "README.md"
        library, old_tags = _of_old_card(path)
        known_tags, known_args = model_card.datasets_of(self.eval_dataset, self.train_dataset)
        results = metrics if isinstance(metrics, Mapping) else None
        history = self.state.log_history
        known_task = model_card.task_of(self.model)
        facts = model_card.CardFacts(
            model_name=model_name or folder.absolute().name,
            language=model_card.as_list(language),
            license=license,
            tags=list(dict.fromkeys([*model_card.as_list(tags), *old_tags, model_card.TAG])),
            finetuned_from=finetuned_from or _base_model(self.model),
            tasks=model_card.as_list(tasks if tasks is not None else known_task),
            dataset=[*model_card.as_list(dataset), *model_card.as_list(dataset_name)],
            dataset_tags=model_card.as_list(dataset_tags) or known_tags,
            dataset_args=model_card.as_list(dataset_args) or known_args,
            metrics=model_card.results_of(history) if results is None else model_card.readable_results(results),
            metric_names=[] if results is not None else model_card.as_list(metrics),
            hyperparameters=model_card.hyperparameters_of(self.args),
            history=history,
        )
        model_card.write_card(path, facts)
        update = getattr(self.model, "create_or_update_model_card", None)
        if library == "peft" and callable(update):
            update(str(folder))


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _of_old_card(path: Path) -> tuple[str | None, list[str]]:
    if not path.is_file():
        return None, []
    from huggingface_hub import ModelCard

    data = ModelCard.load(path, ignore_metadata_errors=True).data
    return data.get("library_name"), list(data.get("tags") or [])


def _base_model(model: object) -> str | None:
    """The repository that the weights came from; None for a local folder."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    name = getattr(getattr(model, "config", None), "_name_or_path", None)
    if not name or Path(name).exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return str(name)
