"""Facts that a person tells about themselves and asks for later, two at a time."""

import random
from dataclasses import dataclass

from tools.train_demo.questions import NAME_STATEMENTS, Turn, random_name
from tools.train_demo.scenes import COLOURS


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: what it is about, its value, and the words that tell it."""

    subject: str
    value: str
    statement: str

    @property
    def told(self) -> Turn:
        """The turn in which the person tells it."""
        if self.subject == "name":
            answer = f"Nice to meet you, {self.value}."
        else:
            answer = f"Your {self.subject} is {self.value}."
        return Turn("told", self.statement, answer, f"The {self.subject} is {self.value}.")


STATEMENTS = {
    "favourite colour": (
        "My favourite colour is {value}.",
        "I like {value} best of all colours.",
        "{value} is my favourite colour.",
    ),
    "number": (
        "My number is {value}.",
        "My favourite number is {value}.",
        "Please remember the number {value}.",
    ),
    "dog's name": (
        "My dog is called {value}.",
        "I have a dog called {value}.",
        "My dog's name is {value}.",
    ),
}
QUESTIONS = (
    "What is my {first} and my {second}?",
    "What are my {first} and my {second}?",
    "Tell me my {first} and my {second}.",
    "Do you remember my {first} and my {second}?",
)


def random_facts(rng: random.Random) -> tuple[Fact, Fact]:
    """Two facts about different things."""
    first, second = rng.sample(("name", *STATEMENTS), 2)
    return _fact(rng, first), _fact(rng, second)


def both_turn(rng: random.Random, facts: tuple[Fact, Fact]) -> Turn:
    """Asks for both, in either order."""
    first, second = rng.sample(facts, 2)
    question = rng.choice(QUESTIONS).format(first=first.subject, second=second.subject)
    answer = f"Your {first.subject} is {first.value} and your {second.subject} is {second.value}."
    return Turn("two facts", question, answer, f"{first.value} and {second.value}.")


def one_turn(rng: random.Random, fact: Fact) -> Turn:
    """Asks for a single one."""
    wording = rng.choice(("What is my {}?", "Do you remember my {}?"))
    answer = f"Your {fact.subject} is {fact.value}."
    return Turn("recall", wording.format(fact.subject), answer, f"{fact.value}.")


def _fact(rng: random.Random, subject: str) -> Fact:
    if subject == "name":
        value = random_name(rng)
        return Fact(subject, value, rng.choice(NAME_STATEMENTS).format(name=value))
    if subject == "favourite colour":
        value = rng.choice(tuple(COLOURS))
    elif subject == "number":
        value = str(rng.randint(0, 99 if rng.random() < 0.7 else 9999))
    else:
        value = random_name(rng)
    statement = rng.choice(STATEMENTS[subject]).format(value=value)
    return Fact(subject, value, statement[0].upper() + statement[1:])
