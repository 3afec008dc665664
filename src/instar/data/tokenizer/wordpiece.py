"""WordPiece, as BERT has it."""

from collections import Counter
from typing import Any, Literal

from instar.data.tokenizer.base import Tokenizer
from instar.data.tokenizer.codec import trained_specials
from instar.data.tokenizer.trained import Texts, Trained, read_sample, train

_PREFIX = "##"
_LETTERS = 1000


class WordPiece(Trained):
    """Words and pieces of words (##ing), split at blanks and punctuation."""

    kind: Literal["wordpiece"] = "wordpiece"
    lowercase: bool = True
    """Whether case and accents are dropped."""

    def build(self, texts: Texts) -> Tokenizer:
        from tokenizers import models, trainers

        tokens, _ = trained_specials(self.end_of_text)
        learning = self._backend(models.WordPiece(unk_token="[UNK]"))
        letters, inner = self._letters(learning, texts)
        # The library numbers the inner letters in the order of a hash table, and breaks ties by number:
        # given as special tokens they have an order, and the same texts give the same words.
        trainer = trainers.WordPieceTrainer(
            vocab_size=max(self.vocab_size, len(tokens) + len(inner) + len(letters)),
            special_tokens=[*tokens, *(_PREFIX + letter for letter in inner)],
            initial_alphabet=letters,
            limit_alphabet=len(letters),
            continuing_subword_prefix=_PREFIX,
            show_progress=False,
        )
        tokenizer = train(self, learning, trainer, texts)
        words = tokenizer.codec.backend().get_vocab(with_added_tokens=True)
        backend = self._backend(models.WordPiece(words, unk_token="[UNK]"))
        return self.finish(backend)

    def _backend(self, model: Any) -> Any:
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, normalizers, pre_tokenizers

        backend = Backend(model)
        backend.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece(prefix=_PREFIX)
        return backend

    def _letters(self, backend: Any, texts: Texts) -> tuple[list[str], list[str]]:
        """(the most frequent letters, those of them that stand inside words), in code point order."""
        words: Counter[str] = Counter()
        for text in read_sample(texts, self.sample):
            normal = backend.normalizer.normalize_str(text)
            words.update([word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal)])
        counts: Counter[str] = Counter()
        inner: set[str] = set()
        for word, count in words.items():
            inner.update(word[1:])
            for letter in word:
                counts[letter] += count
        often = sorted(counts, key=lambda letter: (-counts[letter], letter))[:_LETTERS]
        return sorted(often), sorted(inner.intersection(often))
