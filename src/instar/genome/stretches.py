"""What lies between the gaps of a record, in stretches of bounded length, cut as the bases come."""

import re
from collections.abc import Iterable, Iterator

LONGEST = 1 << 23
"""Bases of a stretch at most; a longer one is cut at multiples of this, counted from its beginning."""
_GAP = b"Nn"


def within(parts: Iterable[tuple[int, bytes]], intervals: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """Of (start, bases) in order those in `intervals`, which are half-open, ascending, and do not touch."""
    ahead = iter(intervals)
    interval = next(ahead, None)
    for start, bases in parts:
        end = start + len(bases)
        while interval is not None and interval[0] < end:
            first, last = max(interval[0], start), min(interval[1], end)
            if first < last:
                yield first, bases[first - start : last - start]
            if interval[1] > end:
                break
            interval = next(ahead, None)


def stretches(
    parts: Iterable[tuple[int, bytes]], min_gap: int = 1, longest: int = LONGEST
) -> Iterator[tuple[int, str]]:
    """(start, bases) of what lies between runs of at least `min_gap` N, in order, and no longer than `longest`.

    `parts` are (start, bases) in order; one that does not begin where the last one ended begins a new stretch. The
    result does not depend on where the parts are cut.
    """
    cutting = _Cutting(min_gap, longest)
    for start, bases in parts:
        if start != cutting.end:
            yield from cutting.finish()
            cutting.begin(start)
        yield from cutting.take(bases)
    yield from cutting.finish()


class _Cutting:
    """Bases that are not given yet."""

    def __init__(self, min_gap: int, longest: int) -> None:
        self.end = 0
        """Coordinate after the last base that came."""
        self._min_gap, self._longest = min_gap, longest
        self._gap = re.compile(b"[%b]{%d,}" % (_GAP, min_gap))
        self.begin(0)

    def begin(self, start: int) -> None:
        self.end = self._at = start
        self._held = bytearray()
        self._clear = 0
        """Held bases before this one begin no gap."""
        self._is_in_gap = False

    def take(self, bases: bytes) -> Iterator[tuple[int, str]]:
        self.end += len(bases)
        if self._is_in_gap:
            rest = bases.lstrip(_GAP)
            self._at += len(bases) - len(rest)
            bases = rest
            self._is_in_gap = not rest
        self._held += bases
        may_hold_gap = b"N" in bases or b"n" in bases  # a search for letters is much slower than one for bytes
        while may_hold_gap and (found := self._gap.search(self._held, self._clear)) is not None:
            yield from self._give(found.start())
            self._drop(found.end() - found.start())
            self._is_in_gap = not self._held
        ends_in_gap = self._held.endswith((b"N", b"n"))
        self._clear = len(self._held.rstrip(_GAP) if ends_in_gap else self._held)
        while self._clear >= self._longest:
            yield from self._give(self._longest)

    def finish(self) -> Iterator[tuple[int, str]]:
        yield from self._give(len(self._held))

    def _give(self, count: int) -> Iterator[tuple[int, str]]:
        for first in range(0, count, self._longest):
            size = min(self._longest, count - first)
            yield self._at, self._held[:size].decode("ascii", "replace")
            self._drop(size)

    def _drop(self, count: int) -> None:
        del self._held[:count]
        self._at += count
        self._clear = max(self._clear - count, 0)
