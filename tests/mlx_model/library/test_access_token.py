"""Which token is used, where it is kept, and what happens where there is no keychain."""

from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from huggingface_hub import constants
from keyring.backends.fail import Keyring as NoKeychain

from mlx_model.library.access_token import (
    KeychainError,
    find_access_token,
    forget_access_token,
    keep_access_token,
)
from tests.keychain import Keychain


@pytest.fixture(autouse=True)
def keychain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Keychain]:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    before = keyring.get_keyring()
    chain = Keychain()
    keyring.set_keyring(chain)
    yield chain
    keyring.set_keyring(before)


def test_the_environment_comes_first_then_ours_then_the_login(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert find_access_token() is None
    (tmp_path / "token").write_text("hf_login")
    assert find_access_token() == "hf_login"
    keep_access_token(" hf_ours\n")
    assert find_access_token() == "hf_ours"
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    assert find_access_token() == "hf_environment"


def test_a_token_is_kept_and_forgotten(keychain: Keychain) -> None:
    keep_access_token("hf_ours")
    assert list(keychain.kept.values()) == ["hf_ours"]
    forget_access_token()
    forget_access_token()
    assert keychain.kept == {}
    assert find_access_token() is None


@pytest.mark.parametrize("token", ["", "  ", "hf_a hf_b", "hf_ä", "hf_a\nX-Header: b"])
def test_what_is_no_token_is_refused(token: str, keychain: Keychain) -> None:
    with pytest.raises(KeychainError, match="no access token"):
        keep_access_token(token)
    assert keychain.kept == {}


def test_without_a_keychain(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring.set_keyring(NoKeychain())
    assert find_access_token() is None
    with pytest.raises(KeychainError, match="used until the program ends; HF_TOKEN in the"):
        keep_access_token("hf_ours")
    with pytest.raises(KeychainError, match="no keychain"):
        forget_access_token()
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    assert find_access_token() == "hf_environment"
