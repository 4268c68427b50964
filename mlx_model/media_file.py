"""What kind of file something is, told from its first bytes, and the sentences for files that
cannot be read. Knows nothing of decoding.

Only listed containers are ever handed to a decoder: others, such as playlists, can make a decoder
open further files or addresses.
"""

import stat
from collections.abc import Set
from pathlib import Path
from typing import Literal

from mlx_model.errors import MediaError

MediaFormat = Literal["still", "heif", "animation", "clip", "unknown"]

_HEAD_BYTES = 512
_MAX_NAME_CHARACTERS = 60
_TS_PACKET_BYTES = 188

_STILL_SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG
    b"BM",
    b"II*\x00",  # TIFF
    b"MM\x00*",
    b"II+\x00",
    b"MM\x00+",
    b"\x00\x00\x01\x00",  # ICO
    b"\x00\x00\x00\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",
)
_ANIMATION_SIGNATURES = (b"GIF87a", b"GIF89a", b"\x89PNG\r\n\x1a\n")
_CLIP_SIGNATURES = (
    b"\x1a\x45\xdf\xa3",  # Matroska and WebM
    b"\x00\x00\x01\xba",  # MPEG programme stream
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # Windows Media
    b"FLV\x01",
    b"OggS",
)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"heif"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_QUICKTIME_ATOMS = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})


def display_name(path: Path) -> str:
    """The file's name as it can stand in a sentence: one line, not too long, in quotation marks."""
    name = "".join(
        character if character.isprintable() else " " for character in path.name or str(path)
    )
    if len(name) > _MAX_NAME_CHARACTERS:
        half = _MAX_NAME_CHARACTERS // 2
        name = f"{name[:half]}…{name[-half:]}"
    return f"“{name}”"


def read_head(path: Path) -> bytes:
    """The first bytes of an ordinary, non-empty file; MediaError says why when there is none.

    Folders, pipes and devices are refused unopened: reading one could wait forever.
    """
    name = display_name(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(f"{name} is a folder. Attach the files inside it instead.")
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{name} is not an ordinary file. Choose a picture or a clip.")
        if status.st_size == 0:
            raise MediaError(f"{name} is empty. Choose another file.")
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise gone(path) from error
    except PermissionError as error:
        raise MediaError(
            f"{name} may not be read. Allow it in the file's settings, or choose another file."
        ) from error
    except (OSError, ValueError) as error:
        raise MediaError(f"{name} cannot be opened. Choose another file.") from error


def sniff(head: bytes) -> MediaFormat:
    """What a file is by its first bytes, whatever its name says.

    "animation" is a still format that can hold several frames: GIF, PNG, WebP.
    """
    if head[4:8] == b"ftyp":
        brands = {head[8:12]} | {head[i : i + 4] for i in range(16, _box_size(head), 4)}
        if brands & _AVIF_BRANDS and head[8:12] not in _HEIF_BRANDS - {b"mif1", b"msf1"}:
            return "still"
        return "heif" if head[8:12] in _HEIF_BRANDS else "clip"
    if head.startswith(_ANIMATION_SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "animation"
    if head.startswith(_STILL_SIGNATURES) or _is_netpbm(head):
        return "still"
    is_avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    is_transport_stream = head[:1] == b"G" and head[_TS_PACKET_BYTES : _TS_PACKET_BYTES + 1] == b"G"
    is_quicktime = head[4:8] in _QUICKTIME_ATOMS
    if is_avi or is_transport_stream or is_quicktime or head.startswith(_CLIP_SIGNATURES):
        return "clip"
    return "unknown"


def gone(path: Path) -> MediaError:
    """The error for a file that is not there, or not any more."""
    return MediaError(f"{display_name(path)} cannot be found. Choose the file again.")


def damaged(path: Path) -> MediaError:
    """The error for a file of the right kind that its decoder cannot read."""
    return MediaError(
        f"{display_name(path)} is damaged or incomplete and cannot be read. Choose another copy."
    )


def unknown(path: Path, suffixes: Set[str], kind: str, formats: str) -> MediaError:
    """The error for a file that is no picture or clip at all, although its name may say so."""
    name = display_name(path)
    if path.suffix.lower() in suffixes:
        return MediaError(f"{name} is not a {kind}, whatever its name says. Choose another file.")
    return MediaError(f"{name} is not a {kind} that Fireside can read. Try {formats}.")


def _box_size(head: bytes) -> int:
    return min(int.from_bytes(head[:4], "big"), len(head))


def _is_netpbm(head: bytes) -> bool:
    return head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace()
