"""A stand-in for the Hub on loopback: repositories, and commits of files, as huggingface_hub asks for them."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class FakeHub:
    """What was made and uploaded; `refuse` makes every request fail with that status."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Any]] = {}
        self.commits: list[tuple[str, str, str, dict[str, bytes]]] = []
        self.requests: list[str] = []
        self.refuse: int | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.url = ""

    def files(self, repository: str) -> dict[str, bytes]:
        """What lies in a repository after all commits."""
        found: dict[str, bytes] = {}
        for name, _, _, added in self.commits:
            found |= added if name == repository else {}
        return found

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.requests.append(f"{method} {path}")
        if self.refuse is not None:
            return self.refuse, {"error": "refused"}
        parts = path.partition("?")[0].strip("/").split("/")
        if parts == ["api", "validate-yaml"]:
            return 200, {"errors": [], "warnings": []}
        if parts == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if parts[:2] == ["api", "models"] and len(parts) == 6:
            name, action, revision = "/".join(parts[2:4]), parts[4], parts[5]
            if name not in self.repositories:
                return 404, {"error": "Repository not found"}
            if action == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                return 200, {"files": files}
            if action == "commit":
                return self._commit(name, revision, body)
            return 200, {"id": name, "sha": "0" * 40, "siblings": []}
        return 404, {"error": f"no such place: {method} {path}"}

    def _create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        name = f"{wanted.get('organization') or 'somebody'}/{wanted['name']}"
        known = name in self.repositories
        self.repositories.setdefault(name, wanted)
        return (409 if known else 200), {"url": f"{self.url}/{name}", "id": name, "name": name}

    def _commit(self, name: str, revision: str, body: bytes) -> tuple[int, Any]:
        assert self.gate.wait(20)
        lines = [json.loads(line) for line in body.splitlines()]
        summary = next(line["value"]["summary"] for line in lines if line["key"] == "header")
        added = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        self.commits.append((name, revision, summary, added))
        oid = f"{len(self.commits):040x}"
        return 200, {
            "success": True,
            "commitOid": oid,
            "commitUrl": f"{self.url}/{name}/commit/{oid}",
            "hookOutput": "",
        }


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The stand-in under way, and huggingface_hub directed at it."""
    import huggingface_hub.constants

    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, value = hub.answer(self.command, self.path, body)
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_HEAD = _serve

        def log_message(self, *values: Any) -> None:
            """Nothing: the tests look at what was asked for."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    try:
        yield hub
    finally:
        huggingface_hub.close_session()
        server.shutdown()
        server.server_close()
        thread.join()
