"""Heads of a packed row in blocks for batched products, moved there and back by one gather each.

Shape letters: T tokens, P slots of a padded layout, H heads, D documents, S slots of one document, R rows of all
blocks, B blocks (documents x heads), W width of a head.
"""

import torch
from torch import Tensor


class Rows:
    """One side's heads: a group's blocks are (documents x heads, slots, width), one group after the other."""

    def __init__(
        self,
        num_heads: int,
        counts: list[int],
        spans: list[tuple[int, int]],
        slots_P: Tensor | None,
        places_T: Tensor | None,
    ) -> None:
        """Groups of `counts` documents, whose slots begin at and number as `spans` say.

        `slots_P` and `places_T` lead from tokens to slots and back; None: the slots are the tokens.
        """
        self._shapes = [(count * num_heads, size) for count, (_, size) in zip(counts, spans, strict=True)]
        self._starts = [start * num_heads for start, _ in spans]
        total = sum(count * size for count, (_, size) in zip(counts, spans, strict=True))
        slot_PH = torch.arange(total)[:, None].expand(total, num_heads)
        head_PH = torch.arange(num_heads).expand(total, num_heads)
        self._slot_R, self._head_R = (self._in_blocks(x, counts, spans) for x in (slot_PH, head_PH))
        back_PH = torch.empty(total * num_heads, dtype=torch.int64)
        back_PH[self._slot_R * num_heads + self._head_R] = torch.arange(total * num_heads)
        back_TH = back_PH.view(total, num_heads)
        self._missing_T: Tensor | None = None
        if slots_P is not None and places_T is not None:
            self._slot_R = slots_P[self._slot_R]
            back_TH = back_TH[places_T.clamp(min=0)]
            if bool((places_T < 0).any()):
                self._missing_T = places_T < 0
        self._shape_TH = back_TH.shape
        self._back_TH = back_TH.reshape(-1)
        self._indices: dict[tuple[int, int], Tensor] = {}

    @staticmethod
    def _in_blocks(x_PH: Tensor, counts: list[int], spans: list[tuple[int, int]]) -> Tensor:
        parts = [
            x_PH[start : start + count * size].view(count, size, -1).transpose(1, 2).reshape(-1)
            for count, (start, size) in zip(counts, spans, strict=True)
        ]
        return torch.cat(parts)

    def gather(self, x_HTW: Tensor) -> Tensor:
        """(H, T, W) in blocks, (R, W); slots that pad repeat a document's last row."""
        heads, tokens, width = x_HTW.shape
        by_head, by_token, by_one = x_HTW.stride()
        if by_one != 1 or by_head % width or by_token % width:
            x_HTW = x_HTW.contiguous()
            by_head, by_token, _ = x_HTW.stride()
        steps = (by_token // width, by_head // width)
        if steps not in self._indices:
            self._indices[steps] = self._slot_R * steps[0] + self._head_R * steps[1]
        last = (tokens - 1) * steps[0] + (heads - 1) * steps[1]
        return x_HTW.as_strided((last + 1, width), (width, 1)).index_select(0, self._indices[steps])

    def gather_once(self, x_THW: Tensor) -> Tensor:
        """(T, H, W) in blocks, (R, W); slots that pad are zero."""
        rows_W = x_THW.reshape(-1, x_THW.shape[-1])
        return rows_W.new_zeros(len(self._slot_R), rows_W.shape[1]).index_copy_(0, self._back_TH, rows_W)

    def scatter(self, x_RW: Tensor) -> Tensor:
        """From blocks to (T, H, W); rows that no block holds are zero."""
        x_THW = x_RW.index_select(0, self._back_TH).view(*self._shape_TH, -1)
        return x_THW if self._missing_T is None else x_THW.masked_fill_(self._missing_T[:, None, None], 0)

    def blocks(self, number: int, x_RW: Tensor) -> Tensor:
        """A group's part of (R, W), as (B, S, W)."""
        count, size = self._shapes[number]
        return x_RW[self._starts[number] : self._starts[number] + count * size].view(count, size, -1)
