"""What a person may ask about a printed word or page, and the right answer."""

import random

from tools.train_demo.printed import Page
from tools.train_demo.questions import LIST_WORDINGS, Turn

WORD_WORDINGS = (
    "What does it say?",
    "What does the picture say?",
    "Read the word.",
    "Which word is this?",
    "What is written here?",
    "What is the word?",
    *LIST_WORDINGS[3:5],
)
PAGE_WORDINGS = (
    "Read the page.",
    "What does the page say?",
    "Read the lines.",
    "What is written on the page?",
    "Read the words from top to bottom.",
    "Read this.",
)


def word_turn(rng: random.Random, page: Page) -> Turn:
    """Asks for a single word."""
    word = page.words[0]
    return Turn("word", rng.choice(WORD_WORDINGS), f"It says {word}.", "I see one word.")


def page_turn(rng: random.Random, page: Page) -> Turn:
    """Asks for all lines in order."""
    lines = ", ".join(page.words)
    thought = f"I see {len(page.words)} lines."
    return Turn("page", rng.choice(PAGE_WORDINGS), f"The page reads {lines}.", thought)
