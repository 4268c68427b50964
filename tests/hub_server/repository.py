"""Repositories as the hub keeps them: files at one commit, small ones in git, large ones in LFS.

A file's bytes come from memory, from a file, or from whoever can make any stretch of them.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

_PIECE_BYTES = 1 << 20
# As the published repositories mark them.
_LFS_SUFFIXES = (".safetensors", "tokenizer.json", ".bin", ".pt")


@dataclass(frozen=True)
class Content:
    """`size` bytes, of which `read(start, count)` gives any stretch."""

    size: int
    read: Callable[[int, int], bytes]

    @staticmethod
    def of_bytes(data: bytes) -> "Content":
        return Content(len(data), lambda start, count: data[start : start + count])

    @staticmethod
    def of_file(file: Path) -> "Content":
        def read(start: int, count: int) -> bytes:
            with file.open("rb") as stream:
                stream.seek(start)
                return stream.read(count)

        return Content(file.stat().st_size, read)

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`, in order."""
        while start < stop:
            piece = self.read(start, min(_PIECE_BYTES, stop - start))
            start += len(piece)
            yield piece

    @cached_property
    def sha256(self) -> str:
        return self._hashed(hashlib.sha256())

    @cached_property
    def git_oid(self) -> str:
        """The id that git gives a file with these bytes."""
        return self._hashed(hashlib.sha1(b"blob %d\0" % self.size))

    def _hashed(self, digest: "hashlib._Hash") -> str:
        for piece in self.pieces(0, self.size):
            digest.update(piece)
        return digest.hexdigest()


@dataclass(frozen=True)
class StoredFile:
    """One file of a repository. `lfs` files have their sha256 as ETag, others git's id."""

    name: str
    content: Content

    @property
    def lfs(self) -> bool:
        return self.name.endswith(_LFS_SUFFIXES)

    @property
    def oid(self) -> str:
        """git's id of what git holds: the file, or the pointer to it."""
        return Content.of_bytes(self._pointer).git_oid if self.lfs else self.content.git_oid

    @property
    def etag(self) -> str:
        return self.content.sha256 if self.lfs else self.content.git_oid

    @property
    def lfs_entry(self) -> dict[str, object]:
        """What the hub's interface tells of an LFS file."""
        size = self.content.size
        return {"oid": self.content.sha256, "size": size, "pointerSize": len(self._pointer)}

    @property
    def _pointer(self) -> bytes:
        return (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{self.content.sha256}\nsize {self.content.size}\n"
        ).encode()


@dataclass
class Repository:
    """A public model repository, whose only branch is `main`; `gated` ones want a token."""

    files: dict[str, StoredFile]
    gated: bool = False
    commit: str = field(init=False)

    def __post_init__(self) -> None:
        listing = "\n".join(f"{name} {file.oid}" for name, file in sorted(self.files.items()))
        self.commit = hashlib.sha1(listing.encode()).hexdigest()

    @staticmethod
    def of(contents: Mapping[str, Content | bytes], gated: bool = False) -> "Repository":
        """A repository of these files: name -> bytes, or whatever makes them."""
        return Repository(
            {
                name: StoredFile(
                    name, Content.of_bytes(content) if isinstance(content, bytes) else content
                )
                for name, content in contents.items()
            },
            gated,
        )

    @staticmethod
    def of_folder(folder: Path, gated: bool = False) -> "Repository":
        """A repository of the files below a folder."""
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return Repository.of(
            {file.relative_to(folder).as_posix(): Content.of_file(file) for file in files}, gated
        )
