"""Whatever a run folder holds, its report shows it as text: checked in the markup, and in a real browser."""

import json
import os
import shutil
import signal
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from instar.report import build_report

ATTACKS = (
    "<script>document.title='owned'</script>",
    "</title><script>document.title='owned'</script>",
    "</style><img src=x onerror=\"document.title='owned'\">",
    "\"><svg onload=\"document.title='owned'\">",
    "' onmouseover='alert(1)' style='x",
    "javascript:alert(1)",
    "<iframe src=//example.org></iframe><base href=//example.org>",
    "<meta http-equiv=refresh content='0;url=http://example.org'>",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "--><script>document.title='owned'</script><!--",
    "]]><script>document.title='owned'</script>",
    "url(http://example.org/x.png)",
    "\ud800\x00\x1b[31m\u202e",
    "=HYPERLINK(\"http://example.org\")",
    "&lt;script&gt;&#60;script&#62;",
)  # fmt: skip
CHROMIUM = shutil.which("chromium")
PLAIN = """
html head meta title style body header footer main section h1 h2 p dl div dt dd small figure figcaption span
picture source img table thead tbody tr th td sub
lang charset http-equiv content name class media srcset src alt
"""  # tags and attributes that the template itself uses, and no more


class Markup(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def hostile_run(tmp_path: Path) -> Path:
    """A run whose every word tries to become markup."""
    run = tmp_path / "<img src=x onerror=alert(1)>&\"'"
    (run / "checkpoint-7").mkdir(parents=True)
    (run / "run.yaml").write_text("".join(f"{attack}: {attack}  # {attack}\n" for attack in ATTACKS[:-3]))
    lines = [{"step": step, "loss": 1.0 / step, **dict.fromkeys(ATTACKS[:4], step)} for step in (1, 2)]
    lines += [{"step": 2, "split": attack, "loss": 1.0} for attack in ATTACKS]
    size = len(ATTACKS)
    lines += [{"step": 3, "split": "test", "confusion": [[1] * size] * size, "labels": ATTACKS}]
    samples: list[dict] = []
    for attack in ATTACKS:
        tokens = [
            {"text": attack, "masked": masked, "guess": attack, "probability": attack} for masked in (True, False)
        ]
        samples += [
            {"step": 3, "kind": "mlm", "tokens": tokens},
            {"step": 3, "kind": "classify", "text": attack, "label": attack, "prediction": attack, "probability": 0.5},
            {"step": 3, "kind": "causal_lm", "prompt": attack, "completion": attack},
        ]
    for name, values in (("metrics", lines), ("samples", samples)):
        (run / f"{name}.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    return run


def test_hostile_words_stay_text(hostile_run: Path) -> None:
    paths = build_report(hostile_run)
    markup = Markup()
    markup.feed(paths.page.read_text(encoding="utf-8"))
    assert markup.tags | {name for name, _ in markup.attributes} <= set(PLAIN.split())
    assert all(value.startswith("data:image/svg+xml;base64,") for name, value in markup.attributes if "src" in name)
    assert all(value.startswith("--share:") for name, value in markup.attributes if name == "style")
    assert ATTACKS[0] in markup.text
    assert "{{ 7 * 7 }}" in markup.text
    for path in paths.figures:
        assert path.parent == hostile_run / "figures"
        if path.suffix == ".svg":
            root = ElementTree.fromstring(path.read_bytes())
            nodes = {node.tag.rpartition("}")[2]: node for node in root.iter()}
            assert not nodes.keys() & {"script", "a", "foreignObject", "iframe"}
            links = [value for node in root.iter() for name, value in node.attrib.items() if name.endswith("href")]
            assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
        if path.suffix == ".csv":
            cells = [line.split(",")[0] for line in path.read_text().splitlines()]
            assert not [cell for cell in cells if cell.startswith(("=", "@", '"='))]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_no_script_runs_in_a_real_browser(hostile_run: Path, tmp_path: Path) -> None:
    page = build_report(hostile_run).page.rename(tmp_path / "report.html")
    dumped = browse(page, tmp_path / "profile", "--dump-dom")
    assert "owned</title>" not in dumped
    assert "instar report</title>" in dumped
    browse(page, tmp_path / "profile", f"--screenshot={tmp_path / 'page.png'}", "--window-size=800,600")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def browse(page: Path, profile: Path, *options: str) -> str:
    """What headless Chromium prints for a page; every process that it started is ended with it."""
    quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [str(CHROMIUM), *quiet.split(), "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={profile}", *options, page.as_uri()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, start_new_session=True, **pipes) as browser:
        try:
            output, _ = browser.communicate(timeout=900)
        finally:
            if browser.poll() is None:
                os.killpg(browser.pid, signal.SIGKILL)
    assert browser.returncode == 0
    return output.decode("utf-8", "replace")
