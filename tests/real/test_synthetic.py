"""Synthetic checkpoints are what is published in everything but the values."""

from pathlib import Path

import pytest

from mlx_model.config import parse_config
from mlx_model.library.catalogue import catalogue_model
from mlx_model.processor import load_processor
from mlx_model.tensor_files import find_tensors
from mlx_model.weights import checked_model, load_model
from tests.mlx_model.published_shapes import SIZES, published_config, published_tensors
from tools.real.synthetic import TINY, config_data, write_converted, write_published


@pytest.mark.parametrize("size", SIZES)
def test_the_config_is_that_of_the_published_model(size: str) -> None:
    assert parse_config(config_data(size)) == published_config(size)


def test_the_files_are_those_of_the_published_model(tmp_path: Path) -> None:
    write_published(tmp_path / "model", TINY)
    assert {file.name for file in (tmp_path / "model").iterdir()} == {
        "LICENSE",
        "README.md",
        "chat_template.jinja",
        "config.json",
        "merges.txt",
        "model.safetensors-00001-of-00001.safetensors",
        "model.safetensors.index.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "video_preprocessor_config.json",
        "vocab.json",
    }


def test_tiny_and_published_tensors_have_the_same_names(tmp_path: Path) -> None:
    """Those of a layer at least; tiny models have fewer layers."""
    write_published(tmp_path / "model", TINY)
    found = {
        (name, info.dtype)
        for name, info in find_tensors(tmp_path / "model").items()
        if (".layers." not in name and ".blocks." not in name) or ".0." in name or ".3." in name
    }
    published = published_tensors(published_config("0.8B"))
    assert found <= {(name, info.dtype) for name, info in published.items()}
    assert any(name.startswith("mtp.") for name, _ in found)


def test_both_forms_load(tmp_path: Path) -> None:
    write_published(tmp_path / "published", TINY)
    write_converted(tmp_path / "converted", TINY)
    for name in ("published", "converted"):
        model = load_model(tmp_path / name)
        assert (model.config.quantization is not None) == (name == "converted")
        assert load_processor(tmp_path / name).vocab_size_used == 1_200 + 33


@pytest.mark.slow
def test_the_whole_size_is_that_of_the_published_model(tmp_path: Path) -> None:
    write_published(tmp_path / "model", "0.8B")
    tensors = find_tensors(tmp_path / "model")
    checked_model(published_config("0.8B"), tensors, tmp_path)
    (weights,) = (tmp_path / "model").glob("*.safetensors")
    header_bytes = 100_000
    assert weights.stat().st_size - header_bytes < catalogue_model("0.8B").raw.size_bytes
    assert weights.stat().st_size > catalogue_model("0.8B").raw.size_bytes
    processor = load_processor(tmp_path / "model")
    assert processor.vocab_size_used == 248_077
    assert processor.tokenizer.token_to_id("<|image_pad|>") == 248_056
