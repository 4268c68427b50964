"""What a repository on the hub holds, and which of it a model needs.

The weights are those that the index names, whatever they are called. Nothing but configuration,
tokenizer, template and safetensors is ever asked for: no pickle, no code.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoSibling

from mlx_model.companion_files import COMPANION_PATTERNS
from mlx_model.errors import DownloadError
from mlx_model.json_file import parse_json
from mlx_model.library.persistence import OddAnswerError

CONFIG_NAME = "config.json"
INDEX_NAME = "model.safetensors.index.json"

_WEIGHTS_SUFFIX = ".safetensors"
_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository.

    `digest` is what the hub names it by: the sha256 of an LFS file, else git's id, a sha1.
    """

    name: str
    size_bytes: int
    digest: str

    @property
    def in_git(self) -> bool:
        """Whether `digest` is git's."""
        return len(self.digest) == 40


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a repository at one commit, by name."""

    repository: str
    commit: str
    files: Mapping[str, HubFile]


def list_repository(
    repository: str, endpoint: str | None, token: str | None, timeout_s: float
) -> Listing:
    """Ask the hub what `repository` holds on its main branch.

    Raises as huggingface-hub and httpx2 do, OddAnswerError if the answer is not a hub's.
    """
    api = HfApi(endpoint=endpoint, token=token)
    try:
        info = api.model_info(repository, files_metadata=True, timeout=timeout_s)
        siblings = [sibling for sibling in info.siblings or () if "/" not in sibling.rfilename]
        files = {sibling.rfilename: _file(sibling) for sibling in siblings}
        commit = str(info.sha)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise OddAnswerError("no list of files") from error
    digests = {file.name: _SHA1 if file.in_git else _SHA256 for file in files.values()}
    # They become file names in the cache.
    if not _SHA1.fullmatch(commit) or any(
        not pattern.fullmatch(files[name].digest) for name, pattern in digests.items()
    ):
        raise OddAnswerError("no list of files")
    return Listing(repository, commit, files)


def _file(sibling: RepoSibling) -> HubFile:
    size, digest = sibling.size, sibling.blob_id
    if sibling.lfs is not None:
        size, digest = sibling.lfs.size, sibling.lfs.sha256
    if type(size) is not int or size < 0 or digest is None or "\0" in sibling.rfilename:
        raise ValueError("a file without a name, size and hash")
    return HubFile(sibling.rfilename, size, digest)


def first_files(listing: Listing) -> list[HubFile]:
    """What has to be read before the rest is known: the config, and the index if there is one."""
    if CONFIG_NAME not in listing.files:
        raise DownloadError(
            f"{listing.repository} holds no model (no {CONFIG_NAME}). Choose another one."
        )
    names = (CONFIG_NAME, INDEX_NAME)
    return [listing.files[name] for name in names if name in listing.files]


def needed_files(listing: Listing, index: bytes | None) -> list[HubFile]:
    """Everything that the model needs, small files first; `index` is the content of its index."""
    first = first_files(listing)
    companions = [
        file
        for file in listing.files.values()
        if any(fnmatch.fnmatchcase(file.name, pattern) for pattern in COMPANION_PATTERNS)
    ]
    return [*first, *companions, *_weights(listing, index)]


def _weights(listing: Listing, index: bytes | None) -> list[HubFile]:
    if index is None:
        names = fnmatch.filter(listing.files, f"model*{_WEIGHTS_SUFFIX}")
    else:
        names = _indexed(listing, index)
    if not names:
        raise DownloadError(
            f"{listing.repository} holds no weights as safetensors, the only form that is read. "
            "Choose another model."
        )
    return [listing.files[name] for name in sorted(names)]


def _indexed(listing: Listing, index: bytes) -> list[str]:
    try:
        names = set(_strings(parse_json(index)["weight_map"].values()))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DownloadError(
            f"{listing.repository} has an index of its weights that cannot be read. "
            "Choose another model."
        ) from error
    missing = sorted(names - set(listing.files))
    if missing or not all(name.endswith(_WEIGHTS_SUFFIX) for name in names):
        raise DownloadError(
            f"{listing.repository} is incomplete: its index names weights that are not there "
            f"({', '.join(missing[:3]) or 'not as safetensors'}). Choose another model."
        )
    return list(names)


def _strings(values: Iterable[object]) -> Iterable[str]:
    for value in values:
        if not isinstance(value, str):
            raise TypeError("a file name is no text")
        yield value
