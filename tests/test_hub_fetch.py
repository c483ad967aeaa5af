"""The hub's side of weights, against a small hub on this machine."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from speechllm import hub
from speechllm.errors import WeightsError

COMMIT = "c0ffee" + "0" * 34
FILES = {
    "config.json": b'{"model_type": "test"}',
    "model.safetensors": b"tensors" * 100,
    "pytorch_model.bin": b"a pickle",
    "code.py": b"raise SystemExit",
}


class Hub(BaseHTTPRequestHandler):
    """owner/open can be read, owner/gated asks for a login, owner/slow never answers."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if "owner/slow" in path:
            time.sleep(3)
        elif "owner/gated" in path:
            self.answer(401, b"", {"X-Error-Code": "GatedRepo"})
        elif path.startswith("/api/models/owner/open/tree"):
            rows = [{"type": "file", "path": n, "size": len(d), "oid": n} for n, d in FILES.items()]
            self.answer(200, json.dumps(rows).encode(), {})
        elif path.startswith("/api/models/owner/open"):
            names = [{"rfilename": name} for name in FILES]
            self.answer(200, json.dumps({"id": "owner/open", "sha": COMMIT, "siblings": names}).encode(), {})
        elif path.startswith("/owner/open/resolve/") and path.rsplit("/", 1)[1] in FILES:
            name = path.rsplit("/", 1)[1]
            self.answer(200, FILES[name], {"X-Repo-Commit": COMMIT, "ETag": f'"{name}"'})
        else:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format, *arguments):
        """Keeps the tests' output clean."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()


def test_safetensors_come_with_their_revision_and_nothing_else(server):
    folder, revision = hub.snapshot("owner/open", progress=False)
    assert revision == COMMIT
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_what_was_kept_is_not_asked_for(server, monkeypatch):
    first = hub.snapshot("owner/open", progress=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub, "_check", None)
    assert hub.snapshot("owner/open", progress=False) == first
    with pytest.raises(WeightsError, match="offline"):
        hub.snapshot("owner/other", progress=False)


@pytest.mark.parametrize("repository", ["owner/gated", "owner/missing"])
def test_a_refusal_is_one_line(server, repository):
    with pytest.raises(WeightsError, match=repository) as error:
        hub.snapshot(repository, progress=False)
    assert "\n" not in str(error.value)


def test_a_hub_that_does_not_answer_is_passed_over(server, monkeypatch):
    monkeypatch.setattr(hub, "SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(hub.HubSilent):
        hub.snapshot("owner/slow", progress=False)
    assert time.monotonic() - start < 2.5


def test_a_set_of_shards_must_be_whole(tmp_path):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").write_bytes(b"")
    assert not hub.has_tensors(tmp_path)
    (tmp_path / "model-2.safetensors").write_bytes(b"")
    assert hub.has_tensors(tmp_path)
