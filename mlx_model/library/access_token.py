"""The token that shows the hub who is asking; only models with conditions need one.

HF_TOKEN comes first, then the one kept here, then the one of huggingface-hub's own login. It is
kept in the system's keychain and nowhere else.
"""

import os

import keyring
from huggingface_hub import get_token
from keyring.errors import KeyringError, PasswordDeleteError

from mlx_model.errors import FiresideError

_SERVICE = "Fireside"
_ACCOUNT = "huggingface.co"
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


class KeychainError(FiresideError):
    """There is no keychain to keep a token in; says what to do instead."""


def find_access_token() -> str | None:
    """The token to use, if there is any; a keychain that does not answer counts as empty."""
    if any(os.environ.get(name, "").strip() for name in _VARIABLES):
        return get_token()
    try:
        kept = keyring.get_password(_SERVICE, _ACCOUNT)
    except KeyringError:
        kept = None
    return kept or get_token()


def keep_access_token(token: str) -> None:
    """Put `token` into the keychain; KeychainError where there is none."""
    token = token.strip()
    if not token or not token.isascii() or any(letter.isspace() for letter in token):
        raise KeychainError("This is no access token. Copy it once more from the hub's page.")
    try:
        keyring.set_password(_SERVICE, _ACCOUNT, token)
    except KeyringError as error:
        raise KeychainError(
            "There is no keychain here to keep the token in. It is used until the program ends; "
            "HF_TOKEN in the environment, or `hf auth login`, keeps one."
        ) from error


def forget_access_token(token: str | None = None) -> None:
    """Take our token out of the keychain, if there is one, and it is `token` or that is None."""
    try:
        if token in (None, keyring.get_password(_SERVICE, _ACCOUNT)):
            keyring.delete_password(_SERVICE, _ACCOUNT)
    except PasswordDeleteError:
        return
    except KeyringError as error:
        raise KeychainError("There is no keychain here, and no token in it.") from error
