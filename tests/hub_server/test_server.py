"""The test hub, asked by huggingface-hub itself: what it serves is what that understands."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from tests.hub_server.repository import Content, Repository
from tests.hub_server.server import HubServer

WEIGHTS = bytes(range(256)) * 3000
FILES = {"config.json": b'{"a": 1}\n', "sub/notes.txt": b"hello\n", "model.safetensors": WEIGHTS}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    repositories = {
        "Qwen/open": Repository.of(FILES),
        "Qwen/closed": Repository.of(FILES, gated=True),
    }
    with HubServer(repositories) as server:
        yield server


def test_a_snapshot_by_huggingface_hub(hub: HubServer, tmp_path: Path) -> None:
    folder = snapshot_download(
        "Qwen/open", endpoint=hub.endpoint, cache_dir=tmp_path, token=False, max_workers=1
    )
    found = {name: (Path(folder) / name).read_bytes() for name in FILES}
    assert found == FILES
    (request,) = hub.body_requests("model.safetensors")
    assert request.host == "storage"


def test_hashes_are_those_of_the_hub(hub: HubServer) -> None:
    api = HfApi(endpoint=hub.endpoint, token=False)
    info = api.model_info("Qwen/open", files_metadata=True)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    assert info.sha == hub.repositories["Qwen/open"].commit
    lfs = siblings["model.safetensors"].lfs
    assert lfs is not None
    assert lfs.sha256 == Content.of_bytes(WEIGHTS).sha256
    assert lfs.size == siblings["model.safetensors"].size == len(WEIGHTS)
    # `printf 'hello\n' | git hash-object --stdin`
    assert siblings["sub/notes.txt"].blob_id == "ce013625030ba8dba906f756967f9e9ca394464a"
    (entry,) = api.get_paths_info("Qwen/open", ["sub/notes.txt"])
    assert entry.path == "sub/notes.txt"


def test_gates_and_tokens(hub: HubServer, tmp_path: Path) -> None:
    def get(repository: str, token: str | bool) -> bytes:
        file = hf_hub_download(
            repository,
            "model.safetensors",
            endpoint=hub.endpoint,
            cache_dir=tmp_path,
            token=token,
        )
        return Path(file).read_bytes()

    assert get("Qwen/closed", "hf_right") == WEIGHTS
    (request,) = hub.body_requests("model.safetensors")
    assert "authorization" not in request.headers
    with pytest.raises(GatedRepoError):
        HfApi(endpoint=hub.endpoint, token=False).model_info("Qwen/closed")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.endpoint, token=False).model_info("Qwen/absent")
    with pytest.raises(HfHubHTTPError):
        HfApi(endpoint=hub.endpoint, token="hf_wrong").model_info("Qwen/open")
