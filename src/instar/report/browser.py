"""A stretch of a genome with its tracks as one page that needs no network: igv.js and all data are in it."""

import base64
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

from instar.genome.annotation import Feature
from instar.genome.coordinates import Interval

IGV = "igv-3.8.10.min.js.gz"
"""igv.js as its package has it (MIT), packed."""
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#7a6a00", "#56b4e9")
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src data: blob:; font-src data:"
)
"""The page forbids itself every request."""


@dataclass(frozen=True)
class BrowserTrack:
    """A track of numbers; `runs` are (start, end, value), 0-based and half-open."""

    name: str
    runs: tuple[tuple[int, int, float], ...]
    most: float | None = 1.0
    """Top of its scale; None: that of its values."""


def browser_page(
    *,
    title: str,
    interval: Interval,
    size: int,
    sequence: str,
    tracks: Sequence[BrowserTrack],
    features: Sequence[Feature] = (),
) -> bytes:
    """The page as UTF-8; every word of the data is escaped, and it begins at the region's first base."""
    packed = files("instar.report").joinpath("vendor", IGV).read_bytes()
    # Comments of a library may hold what ends a script.
    library = gzip.decompress(packed).decode("utf-8").replace("</script", "<\\/script")
    library = library.rpartition("//# sourceMappingURL")[0] or library
    described = _options(interval, size, sequence, tracks, features)
    options = json.dumps(described, separators=(",", ":")).replace("<", "\\u003c")
    listed = "".join(f"<li>{escape(track.name)}</li>" for track in tracks)
    text = _PAGE.format(
        policy=_POLICY,
        title=escape(title),
        interval=escape(str(interval)),
        num_bases=f"{len(interval):,}",
        tracks=listed,
        library=library,
        options=options,
    )
    return text.encode("utf-8", "backslashreplace")


def _options(
    interval: Interval, size: int, sequence: str, tracks: Sequence[BrowserTrack], features: Sequence[Feature]
) -> dict[str, Any]:
    # igv.js takes a colon in a name for the beginning of a range, and words of a header for options.
    name = re.sub(r"[^A-Za-z0-9_.|*+-]", "_", interval.chromosome)
    # It counts a region's name from 1, and its features from 0.
    locus = f"{name}:{interval.start + 1}-{interval.end}"
    fasta = f">{locus} @len={size}\n{sequence}\n"
    encoded = base64.b64encode(fasta.encode("ascii", "replace")).decode()
    return {
        "reference": {
            "id": "genome",
            "name": "genome",
            "fastaURL": f"data:text/plain;base64,{encoded}",
            "indexed": False,
            "tracks": [],
        },
        "locus": locus,
        "showChromosomeWidget": False,
        "tracks": [*_wigs(name, tracks), *_annotation(name, features)],
    }


def _wigs(sequence: str, tracks: Sequence[BrowserTrack]) -> Iterator[dict[str, Any]]:
    for number, track in enumerate(tracks):
        scale = {"autoscale": True} if track.most is None else {"min": 0, "max": track.most}
        yield {
            "type": "wig",
            "name": track.name,
            "color": _COLOURS[number % len(_COLOURS)],
            "height": 90,
            **scale,
            "chr": sequence,
            # The page makes features of them: written out they are four times as long.
            "runs": [(start, end, round(value, 4)) for start, end, value in track.runs],
        }


def _annotation(sequence: str, features: Sequence[Feature]) -> Iterator[dict[str, Any]]:
    if features:
        yield {
            "type": "annotation",
            "name": "annotation",
            "displayMode": "EXPANDED",
            "height": 160,
            "features": [
                {
                    "chr": sequence,
                    "start": feature.interval.start,
                    "end": feature.interval.end,
                    "strand": feature.interval.strand,
                    "name": f"{feature.kind} {feature.name}".strip(),
                }
                for feature in features
            ],
        }


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
body {{ font-family: system-ui, sans-serif; margin: 1rem 2rem; color: #1f2328; }}
#browser {{ border: 1px solid #e4e7eb; }}
.failed {{ color: #b00020; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{interval}, {num_bases} bases, counted from 0, the end not included. Tracks:</p>
<ul>{tracks}</ul>
<div id="browser"></div>
<p id="state">drawing</p>
<script>{library}</script>
<script>
const state = document.getElementById("state");
const options = {options};
for (const track of options.tracks.filter((track) => track.runs)) {{
  const {{ chr, runs }} = track;
  track.features = runs.map(([start, end, value]) => ({{ chr, start, end, value }}));
  delete track.chr;
  delete track.runs;
}}
igv.createBrowser(document.getElementById("browser"), options).then(
  () => {{ state.textContent = "drawn"; }},
  (error) => {{ state.textContent = "cannot be drawn: " + error; state.className = "failed"; }}
);
</script>
</body>
</html>
"""
