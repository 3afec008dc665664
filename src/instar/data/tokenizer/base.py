"""The one public tokenizer, whatever its kind."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from instar.core.errors import DataError, InputMissingError
from instar.core.files.checksum import with_checksum, without_checksum
from instar.data.tokenizer.bounds import must_be_bounded
from instar.data.tokenizer.codec import Codec, Encoded, Specials
from instar.data.tokenizer.fast import FastCodec
from instar.data.tokenizer.sequence import CharacterCodec, KmerCodec
from instar.data.tokenizer.template import TEMPLATE_FILE, read_template

Layout = Literal["encoder", "decoder", "none"]
"""Special tokens round a text: [CLS] ... [SEP]; a mark at its end; nothing."""

Marks = tuple[tuple[int, ...], tuple[int, ...]]
"""Special tokens before and after a text."""

OWN_FILE = "instar_tokenizer.json"
FAST_FILE = "tokenizer.json"
_FORMAT = 2
_WITHOUT_CHECKSUM = 1
"""Format of the files before they had a checksum."""


class Tokenizer:
    """Text to ids and back, with exact character offsets.

    Equal fingerprints mean equal ids for every text. Special tokens written out in a text
    are plain text: data cannot forge them.
    """

    def __init__(self, codec: Codec, specials: Specials, layout: Layout | None = None) -> None:
        self.codec = codec
        self._layout = layout
        self.specials = specials
        self.vocab_size = codec.vocab_size
        ids = {name: codec.number(text) for name, text in specials.named().items()}
        absent = [f"'{specials.named()[name]}'" for name, number in ids.items() if number is None]
        if absent:
            raise DataError(f"the tokenizer's special tokens {', '.join(absent)} are not in its vocabulary")
        self.pad_id = ids.get("pad")
        self.unk_id = ids.get("unk")
        self.cls_id = ids.get("cls")
        self.sep_id = ids.get("sep")
        self.mask_id = ids.get("mask")
        self.bos_id = ids.get("bos")
        self.eos_id = ids.get("eos")
        self.special_ids = frozenset(number for number in ids.values() if number is not None)
        self.chat_template: str | None = None
        """How a talk is written, in Jinja; it goes wherever the tokenizer goes, and no id depends on it."""
        self.marks: Marks | None = None
        """What a foreign tokenizer puts round a text; None: nobody knows."""
        self._forbidden = np.zeros(self.vocab_size, dtype=np.bool_)
        self._forbidden[list(self.special_ids - {self.unk_id})] = True
        self.fingerprint = self._fingerprint()

    def _fingerprint(self) -> str:
        value: dict[str, Any] = {"codec": self.codec.kind, "specials": self.specials.named()}
        value["options"] = self.codec.options()
        if not value["options"]:
            backend = json.loads(self._fast_text() or "{}")
            apart = ("post_processor", "truncation", "padding", "version")
            value["backend"] = {name: part for name, part in backend.items() if name not in apart}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

    def encode_batch(self, texts: Sequence[str]) -> list[Encoded]:
        """Ids and ends of each text; no special tokens are added."""
        encoded = self.codec.encode(texts)
        if isinstance(self.codec, FastCodec) and self.unk_id is not None:
            for one in encoded:  # a Unigram vocabulary holds its special tokens as pieces
                one.ids[self._forbidden[one.ids]] = self.unk_id
        return encoded

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are left out."""
        return self.codec.decode([int(number) for number in ids if int(number) not in self.special_ids])

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Each token as the vocabulary writes it."""
        return [self.codec.token(int(number)) for number in ids]

    def save(self, folder: Path, layout: Layout | None = None) -> None:
        """Write files that `load` reads, and Transformers' AutoTokenizer too where its library can say this kind.

        `layout` sets the special tokens that Transformers adds; None keeps what a loaded tokenizer had.
        Overlapping k-mers have no such form: only instar reads them.
        """
        folder.mkdir(parents=True, exist_ok=True)
        layout = layout or self._layout
        own = {
            "format": _FORMAT,
            "layout": layout,
            "codec": self.codec.kind,
            "options": self.codec.options(),
            "specials": self.specials.named(),
            "fingerprint": self.fingerprint,
        }
        _write_json(folder / OWN_FILE, with_checksum(own))
        text = self._fast_text()
        if text is None:
            return
        if layout is not None:
            text = json.dumps({**json.loads(text), "post_processor": self._processor(layout)}, ensure_ascii=False)
        (folder / FAST_FILE).write_text(text, encoding="utf-8")
        named = {f"{name}_token": token for name, token in self.specials.named().items()}
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **named}
        _write_json(folder / "tokenizer_config.json", config)
        if self.chat_template is not None:
            (folder / TEMPLATE_FILE).write_text(self.chat_template, encoding="utf-8")

    def _fast_text(self) -> str | None:
        if isinstance(self.codec, FastCodec):
            return self.codec.text
        backend = self.codec.backend()
        return None if backend is None else str(backend.to_str())

    def _processor(self, layout: Layout) -> dict[str, Any] | None:
        """What Transformers adds to a text; nothing for a decoder, whose marks stand at documents' ends only."""
        if layout != "encoder":
            return None
        from tokenizers import Tokenizer as Backend
        from tokenizers import models
        from tokenizers.processors import TemplateProcessing

        before, after = self.specials.cls, self.specials.sep
        if before is None or after is None:
            raise DataError("the tokenizer has no cls or no sep token, and an encoder needs both")
        pairs = [(token, self.codec.number(token)) for token in (before, after)]
        backend = Backend(models.WordLevel({}, unk_token=""))
        backend.post_processor = TemplateProcessing(
            single=f"{before}:0 $A:0 {after}:0", pair=f"{before}:0 $A:0 {after}:0 $B:1 {after}:1", special_tokens=pairs
        )
        processor: dict[str, Any] = json.loads(backend.to_str())["post_processor"]
        return processor

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """The tokenizer of a folder that `save` wrote, or of one in Transformers' layout.

        Raises InputMissingError where there is no folder, DataError for a damaged or foreign one.
        """
        if not folder.is_dir():
            raise InputMissingError(f"{folder}: no such folder; wanted one with {FAST_FILE} or vocab.txt")
        must_be_bounded(folder)
        if not (folder / OWN_FILE).is_file():
            from instar.data.tokenizer.folder import marks_of, read_foreign

            foreign = cls(*read_foreign(folder))
            foreign.marks = marks_of(folder, foreign)
            foreign.chat_template = read_template(folder)
            return foreign
        try:
            own = json.loads((folder / OWN_FILE).read_text(encoding="utf-8"))
            if own["format"] == _FORMAT:
                own = without_checksum(own)
            elif own["format"] != _WITHOUT_CHECKSUM or "sha256" in own:
                raise DataError(f"{folder / OWN_FILE}: format {own['format']} is not read by this version of instar")
            loaded = cls(_codec(own, folder), Specials.of(own["specials"]), own["layout"])
        except DataError:
            raise
        except Exception as error:  # the tokenizers library raises plain Exception
            raise DataError(f"{folder / OWN_FILE}: damaged ({error})") from error
        if loaded.fingerprint != own["fingerprint"]:
            raise DataError(f"{folder}: the tokenizer's files were changed after it was saved; take them from a copy")
        loaded.chat_template = read_template(folder)
        return loaded


def _codec(own: dict[str, Any], folder: Path) -> Codec:
    options = own["options"]
    if own["codec"] == "kmer":
        return KmerCodec(options["specials"], options["k"], options["stride"])
    if own["codec"] == "character":
        return CharacterCodec(options["specials"], options["characters"])
    return FastCodec((folder / FAST_FILE).read_text(encoding="utf-8"))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
