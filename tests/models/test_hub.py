"""Models on the Hugging Face Hub, served by a server of the test on this machine."""

import contextlib
import hashlib
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from audiodiff.errors import ParameterError
from audiodiff.models import hub, registry

COMMIT = "c" * 40
ASK = """
import json, sys
import audiodiff
from audiodiff.errors import AudiodiffError
answers = []
for where in sys.argv[1:]:
    try:
        answers.append(["loaded", repr(audiodiff.load(where, device="cpu"))])
    except AudiodiffError as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps(answers))
"""


class Hub(http.server.ThreadingHTTPServer):
    """Serve the folders of a folder as repositories of someone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.asked = folder, []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        _, owner, name, _, revision, file = self.path.split("?")[0].split("/", 5)
        path = self.server.folder / name / file
        if owner != "someone" or not path.parent.is_dir():
            return self._refuse("RepoNotFound")
        if revision not in ("main", "v1", COMMIT):
            return self._refuse("RevisionNotFound")
        if not path.is_file():
            return self._refuse("EntryNotFound")
        content = path.read_bytes()
        self.server.asked.append((revision, file))
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)
        return None

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Hub]:
    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(*models: str, url: str, cache: Path, offline: bool = False) -> list[list[str]]:
    """Load models in a process of its own, whose client knows this server alone; return results or errors."""
    environment = {"HF_ENDPOINT": url, "HF_HOME": str(cache), "HF_HUB_OFFLINE": str(int(offline)), "PATH": ""}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run([sys.executable, "-c", ASK, *models], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_model_on_the_hub_loads_and_loads_again_offline(tmp_path: Path):
    shutil.copytree(registry.find("digits-8k"), tmp_path / "digits")
    (tmp_path / "digits" / "model.py").write_text("raise SystemExit('executed')")
    (tmp_path / "empty").mkdir()
    names = ("hf://someone/digits@v1", "hf://someone/other", "hf://someone/digits@v9", "hf://someone/empty")
    with served(tmp_path) as server:
        loaded, *refused = ask(*names, url=server.url, cache=tmp_path / "cache")
        assert loaded[0] == "loaded"
        assert "8000 Hz" in loaded[1]
        assert {name for _, name in server.asked} == set(registry.FILES) - {registry.ADAPTER}
        assert {revision for revision, _ in server.asked} == {"v1", COMMIT}
    assert [kind for kind, _ in refused] == ["CheckpointError"] * 3
    for (_, text), said in zip(refused, ("hf auth login", "no revision 'v9'", "holds no config.yaml"), strict=True):
        assert said in text
    cached, absent = ask(names[0], names[1], url="http://127.0.0.1:9", cache=tmp_path / "cache", offline=True)
    assert cached == loaded
    assert absent[0] == "CheckpointError"
    assert "HF_HUB_OFFLINE" in absent[1]


def test_a_push_sends_the_files_of_a_checkpoint_as_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    sent: dict[str, object] = {}

    class Api:
        def create_repo(self, repository: str, **options: object) -> None:
            sent["created"] = (repository, options)

        def create_commit(self, repository: str, operations: list, **options: object) -> object:
            sent["files"] = {each.path_in_repo: each.path_or_fileobj for each in operations}
            return type("Done", (), {"commit_url": f"https://hub/{repository}"})

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    folder = tmp_path / "run"
    shutil.copytree(registry.find("digits-8k"), folder)
    (folder / "training_state.pt").write_bytes(b"secret")
    from audiodiff.cli.push import push_command

    push_command(str(folder), "hf://someone/digits", private=True)
    assert sent["created"] == ("someone/digits", {"private": True, "exist_ok": True})
    assert set(sent["files"]) == set(registry.FILES) - {registry.ADAPTER}
    assert sent["files"][registry.CARD].startswith(b"---\nlibrary_name: audiodiff\n")


@pytest.mark.parametrize("where", ["hf://name", "hf://a/b/c", "hf://a/b@", "hf://../b c"])
def test_an_address_of_another_form_is_refused_with_the_form(where: str):
    with pytest.raises(ParameterError, match="hf://owner/name"):
        hub.address(where)
