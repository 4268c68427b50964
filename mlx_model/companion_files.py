"""The files beside config.json and the weights that a checkpoint needs: tokenizer, template, ..."""

# What a checkpoint that knows little of the world brings along: a text to compare over, and the
# questions of its self-check.
OWN_TEXT = "comparison_text.txt"
OWN_QUESTIONS = "self_check.json"

COMPANION_PATTERNS = (
    "tokenizer*.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "*preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    OWN_TEXT,
    OWN_QUESTIONS,
    "LICENSE*",
)
