"""A byte-level tokenizer made on the spot, for tests that need text but no checkpoint."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END = "<|im_end|>"
THINK = "<think>"
THINK_END = "</think>"
IMAGE = "<|image_pad|>"
VIDEO = "<|video_pad|>"


def byte_tokenizer() -> Tokenizer:
    """One token a byte, a few merges of two or more bytes, and the control tokens of a chat."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(alphabet)}
    merges = [("h", "e"), ("he", "l"), ("Ġ", "t"), ("ð", "Ł"), ("â", "Ĥ")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in (END, IMAGE, VIDEO)])
    tokenizer.add_tokens([AddedToken(name, special=False) for name in (THINK, THINK_END)])
    return tokenizer
