"""From a run's data section to tokens, and from tokens to the samples of each split."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from instar.core.errors import ConfigError, DataError, InputMissingError
from instar.core.files.disk import disk_errors
from instar.core.files.temporary import publish_unless_whole, remove, remove_leftovers, set_aside, unique_name
from instar.core.model_folder import must_be_model_folder
from instar.core.rundir import RunFolder
from instar.data.cache import TokenCache, build_cache
from instar.data.config import DataConfig, Split
from instar.data.fingerprint import source_fingerprint, stream_fingerprint
from instar.data.samples import Cut, Samples
from instar.data.source import Genome, Mixture, Source, Text
from instar.data.source.genome import must_be_apart
from instar.data.streaming import BlockCaches, StreamedCorpus, Streaming, first_texts
from instar.data.tokenizer import Layout, Tokenizer, TokenizerConfig, build_tokenizer
from instar.data.unknown import check_unknown
from instar.model import Network
from instar.model.classes import is_causal
from instar.model.config import FromFolder
from instar.run.config import RunConfig
from instar.run.labels import Labels
from instar.run.source import without_withheld
from instar.run.streamed import must_be_streamable

Tell = Callable[[str], None]
ALLOW = "data.allow_unknown_tokens: true"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What a run learns from and is scored on, as tokens."""

    tokenizer: Tokenizer
    train: TokenCache
    evaluation: TokenCache | Split | None
    test: TokenCache | None
    notices: tuple[str, ...] = ()
    """What is worth knowing of how the files are read."""
    stream: StreamedCorpus | None = None
    """Where the training data are streamed: `train` then is their first block."""

    @property
    def labels(self) -> Labels:
        """Those of the training data, which the other splits share."""
        return Labels(kind=self.train.label_kind, names=self.train.label_names)


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The samples of each split, none longer than the model takes."""

    train: Samples
    evaluation: Samples | None
    test: Samples | None


def build_corpus(config: RunConfig, tell: Tell, saved: Path | None = None) -> Corpus:
    """Tokenise every split, each once for all runs with the same content.

    `saved` is a checkpoint whose tokenizer is taken instead of making one.
    """
    with disk_errors(config.data.cache_folder()):
        return _corpus(config, tell, saved)


def _corpus(config: RunConfig, tell: Tell, saved: Path | None) -> Corpus:
    if saved is None and isinstance(config.model, FromFolder):
        _must_be_a_model(Path(config.model.path))
    data = config.data
    _must_be_apart(data)
    tokenizer = Tokenizer.load(saved) if saved is not None else _tokenizer(config, tell)

    def cached(source: Source, known: Sequence[str] | None) -> TokenCache:
        return build_cache(source, tokenizer, data.cache_folder(), labels=known, processes=data.processes)

    stream = None if data.streaming is None else _stream(config, tokenizer, tell)
    train = cached(data.train, known_labels(config)) if stream is None else stream.first
    if config.task.learns_labels and train.label_kind == "none":
        raise ConfigError(
            [f"data.train.label: the task {config.task.kind} needs labels; name the column that holds them"]
        )
    if config.task.learns_labels and train.label_kind == "class" and train.label_names is not None:
        _must_be_several(data.train, train, train.label_names)
    evaluation = (
        data.eval if data.eval is None or isinstance(data.eval, Split) else cached(data.eval, train.label_names)
    )
    test = None if data.test is None else cached(without_withheld(data.test, train.label_names), train.label_names)
    for name, cache in (("train", train), ("eval", evaluation), ("test", test)):
        if isinstance(cache, TokenCache):
            must_be_known(f"data.{name}", cache, tokenizer, is_allowed=data.allow_unknown_tokens)
    notices = tuple(f"data.{name}: {line}" for name, source in _sources(data) for line in source.notices())
    if stream is not None:
        notices = (*notices, f"data.train: {stream.notice}")
    return Corpus(tokenizer=tokenizer, train=train, evaluation=evaluation, test=test, notices=notices, stream=stream)


def _stream(config: RunConfig, tokenizer: Tokenizer, tell: Tell) -> StreamedCorpus:
    """The training data as a stream, with its first block."""
    data, known = config.data, known_labels(config)
    must_be_streamable(data, known, learns_labels=config.task.learns_labels)

    def check(cache: TokenCache) -> None:
        warning = must_be_known("data.train", cache, tokenizer, is_allowed=data.allow_unknown_tokens)
        if warning is not None:
            tell(warning)

    caches = BlockCaches(
        source=data.train,
        tokenizer=tokenizer,
        folder=data.cache_folder(),
        labels=known,
        fingerprint=stream_fingerprint(data.train, tokenizer, known),
        check=check,
    )
    return StreamedCorpus.of(caches, data.streaming or Streaming())


def _sources(data: DataConfig) -> Iterator[tuple[str, Source]]:
    for name, source in (("train", data.train), ("eval", data.eval), ("test", data.test)):
        if source is not None and not isinstance(source, Split):
            yield name, source


def _must_be_apart(data: DataConfig) -> None:
    """ConfigError where held-out parts of a genome are trained on."""
    train = data.train.parts if isinstance(data.train, Mixture) else [data.train]
    for name, source in _sources(data):
        for part in train if name != "train" else ():
            if isinstance(source, Genome) and isinstance(part, Genome):
                must_be_apart(f"data.{name}", source, part)


def _must_be_several(source: Source, train: TokenCache, names: Sequence[str]) -> None:
    """DataError where all documents have the same class."""
    found: list[int] = [] if train.labels is None else np.unique(train.labels).tolist()
    if len(found) < 2:
        every = ", ".join(names[number] for number in found)
        raise DataError(
            f"{source.files()[0]}: every label is {every!r}; a classifier wants two classes or more (numbers are "
            "learnt with data.train.label_kind: number)"
        )


def must_be_known(what: str, cache: TokenCache, tokenizer: Tokenizer, *, is_allowed: bool) -> str | None:
    """A warning if many tokens are unknown; DataError if most are, unless `is_allowed`."""
    return check_unknown(what, cache.token_count, tokenizer, is_allowed=is_allowed, option=ALLOW)


def known_labels(config: RunConfig) -> tuple[str, ...] | None:
    """The classes that the training data may have; None: whatever they have."""
    return config.task.class_names


def cut_corpus(config: RunConfig, corpus: Corpus, network: Network) -> Splits:
    """The samples of each split, no longer than the network takes."""
    cut = cut_of(config, network)

    def samples(cache: TokenCache | None) -> Samples | None:
        return None if cache is None else Samples(cache, corpus.tokenizer, cut)

    train = Samples(corpus.train, corpus.tokenizer, cut)
    if isinstance(corpus.evaluation, Split):
        train, evaluation = _split(train, corpus.evaluation, config.data.train)
        return Splits(train=train, evaluation=evaluation, test=samples(corpus.test))
    return Splits(train=train, evaluation=samples(corpus.evaluation), test=samples(corpus.test))


def _split(train: Samples, split: Split, source: Source) -> tuple[Samples, Samples]:
    """(train, held out); DataError names the file that gives too little to hold some out."""
    try:
        return train.split(split.fraction, split.seed)
    except DataError as error:
        few = train.cache.num_documents == 1 and isinstance(source, Text) and source.separation != "line"
        hint = "; or, if each line is a document, set data.train.documents: line" if few else ""
        raise DataError(f"data.eval: {source.files()[0]}: {error}{hint}") from error


def layout_of(config: RunConfig, network: Network) -> Layout:
    """Special tokens round a text: a causal network has only ever seen one at the end."""
    reads_forward = config.task.reads_forward or is_causal(network.model.config.model_type)
    return "decoder" if reads_forward else "encoder"


def cut_of(config: RunConfig, network: Network) -> Cut:
    """How the run cuts documents into samples."""
    return Cut(
        layout=layout_of(config, network),
        max_length=config.data.max_length or network.max_length,
        too_long=config.data.too_long,
        overlap=config.data.overlap,
    )


def _tokenizer(config: RunConfig, tell: Tell) -> Tokenizer:
    if config.tokenizer is not None:
        tokenizer = learnt_tokenizer(config.tokenizer, config.data, tell)
        if isinstance(config.model, FromFolder) and config.model.resize_embeddings is None:
            _must_be_the_models(tokenizer, Path(config.model.path))
        return tokenizer
    if not isinstance(config.model, FromFolder):
        raise ConfigError(["tokenizer: a new model needs one, like {kind: wordpiece, vocab_size: 8000}"])
    return Tokenizer.load(Path(config.model.path))


def _must_be_a_model(folder: Path) -> None:
    """DataError or InputMissingError for anything but a model; a run folder is no checkpoint."""
    must_be_model_folder(folder)
    inside = RunFolder(folder).checkpoints()
    if inside and not (folder / "config.json").is_file():
        raise InputMissingError(f"model.from: {folder} is a run, not a model; did you mean {inside[-1][1]}?")


def _must_be_the_models(tokenizer: Tokenizer, folder: Path) -> None:
    """DataError if the model was trained with another tokenizer: its ids would mean other tokens."""
    try:
        saved = Tokenizer.load(folder)
    except (DataError, InputMissingError):
        return  # a folder of weights only
    if saved.fingerprint != tokenizer.fingerprint:
        raise DataError(
            f"tokenizer: makes {tokenizer.vocab_size} tokens, and the model of {folder} was trained with another one, "
            f"which makes {saved.vocab_size}; their ids mean other tokens, so set tokenizer: null for the model's own, "
            "or model.resize_embeddings: by_token to keep the rows of the tokens that both have"
        )


def learnt_tokenizer(config: TokenizerConfig, data: DataConfig, tell: Tell) -> Tokenizer:
    """The tokenizer of a config on the training data, learnt once and kept beside the token caches."""
    cache = data.cache_folder()
    streaming = data.streaming
    source = source_fingerprint(data.train, cache) if streaming is None else stream_fingerprint(data.train)
    named: dict[str, Any] = {"config": config.model_dump(mode="json"), "source": source}
    if streaming is not None:
        named["documents"] = streaming.documents
    key = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache / f"tokenizer-{key}"
    if folder.is_dir():
        try:
            return Tokenizer.load(folder)
        except DataError as error:
            tell(f"{error}; it is learnt anew")
            set_aside(folder, _is_tokenizer)
    if config.kind != "from_folder":
        what = "the training data" if streaming is None else f"the first {streaming.documents:,} documents"
        tell(f"tokenizer: learning {config.kind} from {what}")
    remove_leftovers(folder)
    temporary = unique_name(folder)
    try:
        texts = data.train.texts if streaming is None else partial(first_texts, data.train, streaming)
        built = build_tokenizer(config, texts)
    except DataError as error:
        place = str(data.train.files()[0])
        is_told = place in str(error) or config.kind == "from_folder"
        raise error if is_told else DataError(f"{place}: {error}") from error
    try:
        built.save(temporary)
        publish_unless_whole(temporary, folder, _is_tokenizer)  # where another process was first, both learnt the same
    finally:
        remove(temporary)
    return Tokenizer.load(folder)


def _is_tokenizer(folder: Path) -> bool:
    try:
        Tokenizer.load(folder)
    except (DataError, InputMissingError):
        return False
    return True
