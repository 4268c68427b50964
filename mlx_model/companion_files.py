"""The files beside config.json and the weights that a checkpoint needs: tokenizer, template, ..."""

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
    "comparison_text.txt",
    "self_check.json",
    "LICENSE*",
)
