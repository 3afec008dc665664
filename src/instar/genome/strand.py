"""The other strand, with its coordinates."""

_COMPLEMENT = str.maketrans("ACGTUNRYSWKMBDHVacgtunryswkmbdhv", "TGCAANYRSWMKVHDBtgcaanyrswmkvhdb")


def reverse_complement(sequence: str) -> str:
    """The minus strand, read in its own direction; case is kept, and what is no nucleotide stays as it is."""
    return sequence.translate(_COMPLEMENT)[::-1]


def mirrored(start: int, end: int, length: int) -> tuple[int, int]:
    """The 0-based half-open interval [start, end) of one strand of `length` bases, seen from the other."""
    return length - end, length - start
