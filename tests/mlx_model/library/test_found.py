"""Finding what is on the machine already, and deleting what may be deleted."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_model.config import load_config
from mlx_model.library.found import FoundModel, find_models, look_at, models_at
from mlx_model.library.memory_needs import memory_needs
from mlx_model.library.removal import RemovalError, delete_model, freed_bytes
from mlx_model.tensor_files import find_tensors
from mlx_model.weight_sizes import size_bytes, weight_groups
from tests.mlx_model.library.small_hub import DEMO

CONFIG = (DEMO / "config.json").read_bytes()


def put_model(folder: Path, config: bytes = CONFIG, weights: bool = True) -> Path:
    """The demo model in another place, or something like it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(config)
    if weights:
        (folder / "model.safetensors").symlink_to(DEMO / "model.safetensors")
    return folder


def put_snapshot(cache: Path, repository: str, commit: str, newest: bool = True) -> Path:
    """The demo model as the hub's cache keeps it, blobs and links."""
    top = cache / f"models--{repository.replace('/', '--')}"
    snapshot = top / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (top / "blobs").mkdir(exist_ok=True)
    for file in DEMO.iterdir():
        blob = top / "blobs" / f"digest-of-{file.name}"
        if not blob.exists():
            shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
    (top / "refs").mkdir(exist_ok=True)
    if newest:
        (top / "refs" / "main").write_text(commit)
    return snapshot


def found_in(tmp_path: Path, *folders: Path) -> dict[str, FoundModel]:
    """Name -> what is found below `tmp_path`: cache, own and home."""
    models = find_models(tmp_path / "cache", tmp_path / "own", tmp_path / "home", folders)
    return {model.name: model for model in models}


def test_every_place_is_looked_into(tmp_path: Path) -> None:
    snapshot = put_snapshot(tmp_path / "cache", "Qwen/Qwen3.5-0.8B", "a" * 40)
    own = put_model(tmp_path / "own" / "Qwen3.5-2B-4bit")
    studio = put_model(tmp_path / "home" / ".lmstudio" / "models" / "lmstudio-community" / "Q")
    older = put_model(tmp_path / "home" / ".cache" / "lm-studio" / "models" / "someone" / "R")
    pointed = put_model(tmp_path / "elsewhere" / "mine")
    found = found_in(tmp_path, pointed)
    assert {name: (model.folder, model.source) for name, model in found.items()} == {
        "Qwen3.5-2B-4bit": (own, "own"),
        "Qwen/Qwen3.5-0.8B": (snapshot, "hub"),
        "lmstudio-community/Q": (studio, "lm_studio"),
        "someone/R": (older, "lm_studio"),
        "mine": (pointed, "folder"),
    }
    assert all(model.problem is None and model.is_ours for model in found.values())


def test_lm_studio_may_keep_its_models_elsewhere(tmp_path: Path) -> None:
    home, studio, chosen = tmp_path / "home", tmp_path / "studio", tmp_path / "disk" / "models"
    put_model(studio / "models" / "p" / "A")
    put_model(chosen / "p" / "B")
    home.mkdir()
    (home / ".lmstudio-home-pointer").write_text(f"{studio}\n")
    (studio / "settings.json").write_text(json.dumps({"downloadsFolder": str(chosen)}))
    assert set(found_in(tmp_path)) == {"p/A", "p/B"}
    (studio / "settings.json").write_text("oops")
    assert set(found_in(tmp_path)) == {"p/A"}


def test_what_is_told_of_a_model() -> None:
    model = look_at(DEMO)
    config = load_config(DEMO)
    groups = weight_groups(find_tensors(DEMO), config.quantization)
    head = any(group.part == "draft head" for group in groups)
    assert model.problem is None
    assert model.quantised
    assert model.bits == pytest.approx(8 * size_bytes(groups) / sum(g.weights for g in groups))
    assert model.needs == memory_needs(config.text, size_bytes(groups), draft_head=head)
    assert model.size_bytes == sum(file.stat().st_size for file in DEMO.iterdir())


def test_the_newest_snapshot_stands_for_a_repository(tmp_path: Path) -> None:
    put_snapshot(tmp_path / "cache", "Qwen/Q", "a" * 40)
    newest = put_snapshot(tmp_path / "cache", "Qwen/Q", "b" * 40)
    put_snapshot(tmp_path / "cache", "Qwen/Q", "c" * 40, newest=False)
    (model,) = found_in(tmp_path).values()
    assert model.folder == newest


def test_a_folder_that_is_pointed_at_twice_counts_once(tmp_path: Path) -> None:
    own = put_model(tmp_path / "own" / "Q")
    (tmp_path / "link").symlink_to(own)
    models = find_models(tmp_path, tmp_path / "own", tmp_path, [own, tmp_path / "link"])
    assert [model.source for model in models] == ["own"]


def test_who_points_at_a_folder_with_models_means_each_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    one, other = put_model(folder / "one"), put_model(folder / "somebody" / "other")
    (folder / "notes").mkdir()
    put_model(folder / ".hidden")
    assert models_at(folder) == (one, other)
    assert models_at(one) == (one,)
    assert models_at(folder / "notes") == (folder / "notes",)
    assert set(found_in(tmp_path, folder)) == {"one", "other"}


def test_who_points_at_a_hubs_cache_elsewhere_means_what_is_in_it(tmp_path: Path) -> None:
    cache = tmp_path / "disk" / "hub"
    put_snapshot(cache, "Qwen/A", "5" * 40, newest=False)
    newest = put_snapshot(cache, "Qwen/A", "4" * 40)
    other = put_snapshot(cache, "Qwen/B", "6" * 40)
    assert models_at(cache / "models--Qwen--A") == (newest,)
    assert models_at(cache) == (newest, other)
    models = found_in(tmp_path, cache, cache / "models--Qwen--A")
    assert {name: model.source for name, model in models.items()} == {
        "Qwen/A": "folder",
        "Qwen/B": "folder",
    }


def test_nothing_there_is_nothing_found(tmp_path: Path) -> None:
    (tmp_path / "cache" / "models--Qwen--begun" / "blobs").mkdir(parents=True)
    (tmp_path / "cache" / "datasets--a--b" / "snapshots" / "c").mkdir(parents=True)
    assert found_in(tmp_path) == {}


@pytest.mark.parametrize(
    ("config", "weights", "is_ours", "words"),
    [
        (b'{"model_type": "llama"}', True, False, "a model of another kind"),
        (b"oops", True, False, "cannot be read as a model's config"),
        (CONFIG, False, True, "no weights in"),
        (json.dumps({"model_type": "qwen3_5"}).encode(), True, True, "says nothing about"),
    ],
)
def test_what_cannot_be_used_says_why(
    config: bytes, weights: bool, is_ours: bool, words: str, tmp_path: Path
) -> None:
    model = look_at(put_model(tmp_path / "m", config, weights))
    assert model.problem is not None
    assert words in model.problem
    assert model.is_ours == is_ours
    assert (model.bits, model.needs) == (None, None)


def test_weights_that_are_cut_short_are_a_problem(tmp_path: Path) -> None:
    folder = put_model(tmp_path / "m", weights=False)
    (folder / "model.safetensors").write_bytes((DEMO / "model.safetensors").read_bytes()[:-1])
    assert "is incomplete" in (look_at(folder).problem or "")


def test_a_folder_that_is_not_there_is_a_problem_too(tmp_path: Path) -> None:
    assert "cannot be found" in (look_at(tmp_path / "gone").problem or "")


def test_deleting_from_the_cache_frees_the_whole_repository(tmp_path: Path) -> None:
    put_snapshot(tmp_path / "cache", "Qwen/Q", "a" * 40, newest=False)
    put_snapshot(tmp_path / "cache", "Qwen/Q", "b" * 40)
    other = put_snapshot(tmp_path / "cache", "Qwen/R", "c" * 40)
    model = found_in(tmp_path)["Qwen/Q"]
    blobs = sum(file.stat().st_size for file in DEMO.iterdir())
    # The names of the links are a few bytes more.
    assert blobs <= freed_bytes(model) < blobs + 2000
    assert delete_model(model) == pytest.approx(blobs, abs=2000)
    assert list(found_in(tmp_path)) == ["Qwen/R"]
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["models--Qwen--R"]
    assert (other / "config.json").read_bytes() == CONFIG


def test_deleting_our_own(tmp_path: Path) -> None:
    folder = put_model(tmp_path / "own" / "Q")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(bytes(5000))
    model = found_in(tmp_path)["Q"]
    assert delete_model(model) == 5000 + len(CONFIG)
    assert list((tmp_path / "own").iterdir()) == []


@pytest.mark.parametrize("source", ["lm_studio", "folder"])
def test_what_others_keep_stays(source: str, tmp_path: Path) -> None:
    place = {"lm_studio": "home/.lmstudio/models/p/Q", "folder": "elsewhere/Q"}[source]
    folder = put_model(tmp_path / place)
    (model,) = found_in(tmp_path, *([folder] if source == "folder" else [])).values()
    assert model.source == source
    assert not model.may_be_deleted
    with pytest.raises(RemovalError, match="belongs to another program or was put there by you"):
        delete_model(model)
    assert (folder / "config.json").exists()


@pytest.fixture
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that any account may look into, while the test runs as an account like any other."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    os.seteuid(os.getuid())
    shutil.rmtree(folder)


def test_a_folder_that_may_not_be_looked_into_hides_no_other(public: Path) -> None:
    put_model(public / "own" / "good", weights=False)
    closed = put_model(public / "own" / "closed", weights=False)
    closed.chmod(0)
    if os.getuid() == 0:
        os.seteuid(65534)
    models = find_models(public / "cache", public / "own", public / "home", [closed])
    os.seteuid(os.getuid())
    assert [(model.name, model.source) for model in models] == [
        ("good", "own"),
        ("closed", "folder"),
    ]
    assert f"{closed} cannot be looked into (Permission denied). Choose" in (
        models[1].problem or ""
    )


@pytest.mark.parametrize("depth", [100_000, 3])
def test_strange_settings_hide_no_other_model(depth: int, tmp_path: Path) -> None:
    put_model(tmp_path / "own" / "strange", b"[" * depth)
    put_model(tmp_path / "own" / "good")
    found = found_in(tmp_path)
    assert found["good"].problem is None
    assert "cannot be read" in (found["strange"].problem or "")


@pytest.mark.parametrize("source", ["own", "hub"])
def test_a_link_to_a_folder_elsewhere_stays_and_so_does_the_folder(
    source: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    if source == "own":
        put_model(elsewhere / "Q")
        link, target = tmp_path / "own" / "Q", elsewhere / "Q"
    else:
        put_snapshot(elsewhere, "Qwen/Q", "a" * 40)
        link, target = tmp_path / "cache" / "models--Qwen--Q", elsewhere / "models--Qwen--Q"
    link.parent.mkdir()
    link.symlink_to(target)
    (model,) = found_in(tmp_path).values()
    assert model.source == source
    with pytest.raises(RemovalError, match=f"is a link to {target}, which you made"):
        delete_model(model)
    assert list(found_in(tmp_path).values()) == [model]


def test_what_a_killed_deletion_left_goes_with_the_next(tmp_path: Path) -> None:
    put_model(tmp_path / "own" / ".Q.0123.fireside-deleted")
    put_model(tmp_path / "own" / ".something else")
    put_model(tmp_path / "own" / "R")
    delete_model(found_in(tmp_path)["R"])
    assert [entry.name for entry in (tmp_path / "own").iterdir()] == [".something else"]


def test_a_folder_that_only_claims_to_be_of_the_cache_stays(tmp_path: Path) -> None:
    folder = put_model(tmp_path / "documents" / "snapshots" / "Q")
    with pytest.raises(RemovalError):
        delete_model(look_at(folder, source="hub"))
    assert (folder / "config.json").exists()
