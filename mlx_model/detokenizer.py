"""Token ids to text, one id at a time, whole characters only; knows no model and no conversation.

Works on byte-level vocabularies (GPT-2 style, as Qwen's): a token is a run of bytes, and one
character may be spread over several. Each id costs the same whatever the length of the text so far.
"""

import codecs

from tokenizers import Tokenizer


def _byte_of_letter() -> dict[str, int]:
    """The letters that stand for bytes in a byte-level vocabulary.

    Printable Latin-1 bytes stand for themselves; the others, in order, for U+0100 onwards.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}


class TokenBytes:
    """The bytes of each token of one tokenizer, looked up once and kept."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._byte_of_letter = _byte_of_letter()
        self._known: dict[int, bytes] = {
            token_id: b"" if token.special else token.content.encode()
            for token_id, token in tokenizer.get_added_tokens_decoder().items()
        }

    def __getitem__(self, token_id: int) -> bytes:
        """The bytes of `token_id`; empty for a special token or an id outside the vocabulary."""
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._look_up(token_id)
        return known

    def _look_up(self, token_id: int) -> bytes:
        letters = self._tokenizer.id_to_token(token_id)
        if letters is None:
            return b""
        try:
            return bytes(self._byte_of_letter[letter] for letter in letters)
        except KeyError:  # not written in byte letters: the token is its own text
            return str(letters).encode()


class Detokenizer:
    """Turns the ids of one reply into text.

    A character whose bytes are not all there yet is held back; if the reply ends first it is never
    shown. Bytes that can no longer become a character are shown as U+FFFD, as decoding the
    finished reply in one piece would.
    """

    def __init__(self, token_bytes: TokenBytes) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token_id: int) -> str:
        """The text that `token_id` completes; empty while a character is unfinished."""
        return self._decoder.decode(self._token_bytes[token_id])

    def drop_unfinished(self) -> None:
        """Forget the bytes of a character that will never be finished."""
        self._decoder.reset()
