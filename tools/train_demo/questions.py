"""Conversations about scenes: what a person may ask and the right answer, each in several wordings.

A `Turn` is one question with its answer; which picture or clip it is about is the caller's matter.
"""

import random
import re
from dataclasses import dataclass

from tools.train_demo.scenes import COLOURS, SHAPES, ClipScene, Scene

COLOUR_WORDINGS = (
    "What colour is the {kind}?",
    "What color is the {kind}?",
    "Which colour does the {kind} have?",
)
COUNT_WORDINGS = (
    "How many shapes are there?",
    "How many shapes do you see?",
    "Count the shapes.",
)
PRESENCE_WORDINGS = (
    "Is there {article} {name}?",
    "Do you see {article} {name}?",
    "Can you see {article} {name}?",
)
LIST_WORDINGS = (
    "List the shapes from left to right.",
    "Name the shapes from left to right.",
    "What shapes are there from left to right?",
    "What do you see?",
    "What is in the picture?",
    "Describe the picture.",
)
DIRECTION_WORDINGS = (
    "Which way does the {kind} move?",
    "In which direction does the {kind} move?",
    "Where does the {kind} go?",
)
SINGLE_DIRECTION_WORDINGS = (
    "Which way does it move?",
    "In which direction does the shape move?",
    "What happens in the clip?",
)
NAME_STATEMENTS = (
    "My name is {name}.",
    "I am {name}.",
    "Hello, I am {name}.",
    "Hi, my name is {name}.",
)
NAME_QUESTIONS = ("What is my name?", "Who am I?", "Do you remember my name?")
GREETINGS = ("Hello", "Hi", "Hello there", "Good morning", "Hey")
IDENTITY_QUESTIONS = ("Who are you?", "What are you?", "What can you do?")
THANKS = ("Thank you", "Thanks", "Great, thanks", "Well done")

IDENTITY_ANSWER = (
    "I am the demo model of Fireside. I know coloured shapes only: "
    "show me a picture or a clip of some."
)
GREETING_ANSWER = "Hello. Show me a picture or a clip of coloured shapes."
THANKS_ANSWER = "You are welcome."
NO_PICTURE_ANSWER = "I see no picture yet. Drop one in and ask again."
TALK = "This is not about a picture."
STARTS = {
    "right": "It starts on the left and ends on the right.",
    "left": "It starts on the right and ends on the left.",
    "down": "It starts at the top and ends at the bottom.",
    "up": "It starts at the bottom and ends at the top.",
}

_NAMES = """
Adam Ada Aisha Alan Alex Alice Amir Amy Ana Andrea Anna Anton Ben Bob Boris Carl Carla Carlos Chen
Chloe Clara Dan Dana Daniel David Diana Dora Elena Elias Elif Ella Emil Emily Emma Eric Erik Eva
Farid Felix Fiona Frank Fred Grace Greta Hana Hans Harry Helen Henry Hugo Ian Ida Ines Ingrid Iris
Ivan Jack Jana Jane Jim Joan Joe John Jonas Julia Karim Kate Kim Lara Laura Lea Lena Leo Li Lily
Lina Lisa Lucas Lucy Luis Maja Marco Maria Marie Mark Marta Max Maya Mei Mia Mike Mila Mina
Mohamed Nadia Nick Nina Noah Nora Olga Oliver Omar Oscar Otto Paul Pedro Peter Petra Priya Rania
Ravi Robin Rosa Ruth Sam Sara Simon Sofia Sonja Stefan Sven Tara Tim Tina Tom Uma Vera Victor
Wanda Wei Will Yan Yara Yusuf Zara Zoe
"""
NAMES = tuple(_NAMES.split())
_ONSETS = (*"bdfghjklmnprstvwz", "br", "dr", "gr", "kr", "st", "tr", "ch", "sh", "th")
_VOWELS = (*"aeiou", "ai", "ea", "ee", "ia", "io")
_CODAS = ("", "", *"nlrsmkt")


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its right answer; `ability` names the row of the evaluation table.

    `reasoning` is what the model may think before it answers, when it is asked to think.
    """

    ability: str
    question: str
    answer: str
    reasoning: str = ""


def article(word: str) -> str:
    """The indefinite article that `word` takes."""
    return "an" if word[0] in "aeiou" else "a"


def listing(names: list[str]) -> str:
    """The names with articles, joined as in a sentence: "A red circle and a blue square."."""
    items = [f"{article(name)} {name}" for name in names]
    text = items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
    return text[0].upper() + text[1:] + "."


def seen(scene: Scene) -> str:
    """The thought that begins every look at a picture: what is in it, from left to right."""
    names = listing([s.name for s in scene.shapes])
    return f"I see {names[0].lower()}{names[1:]}"


def colour_turn(rng: random.Random, scene: Scene) -> Turn | None:
    """Asks for the colour of a kind of shape of which the scene has exactly one."""
    kinds = [s.kind for s in scene.shapes]
    single = [s for s in scene.shapes if kinds.count(s.kind) == 1]
    if not single:
        return None
    shape = rng.choice(single)
    question = rng.choice(COLOUR_WORDINGS).format(kind=shape.kind)
    return Turn("colour", question, f"The {shape.kind} is {shape.colour}.", seen(scene))


def count_turn(rng: random.Random, scene: Scene) -> Turn:
    """Asks for the number of shapes."""
    count = len(scene.shapes)
    answer = "There is 1 shape." if count == 1 else f"There are {count} shapes."
    return Turn("count", rng.choice(COUNT_WORDINGS), answer, f"{seen(scene)} That makes {count}.")


def presence_turn(rng: random.Random, scene: Scene, half_right: float = 0.8) -> Turn:
    """Asks for a shape of some colour; of those that are not there, a share of `half_right` has
    the colour or the kind of one that is."""
    names = {s.name for s in scene.shapes}
    present = rng.random() < 0.5
    name = rng.choice(sorted(names)) if present else _absent_name(rng, scene, names, half_right)
    question = rng.choice(PRESENCE_WORDINGS).format(article=article(name), name=name)
    # The name comes first: the word that decides then stands beside what it is about.
    echo = f"{article(name)} {name}?".capitalize()
    answer = f"{echo} Yes, there is one." if present else f"{echo} No, there is none."
    return Turn("presence", question, answer, seen(scene))


def list_turn(rng: random.Random, scene: Scene) -> Turn:
    """Asks for all shapes from left to right."""
    answer = listing([s.name for s in scene.shapes])
    return Turn("list", rng.choice(LIST_WORDINGS), answer, seen(scene))


def direction_turn(rng: random.Random, clip: ClipScene) -> Turn:
    """Asks where the moving shape goes."""
    kind = clip.scene.shapes[0].kind
    wordings = DIRECTION_WORDINGS
    if len(clip.scene.shapes) == 1:
        wordings += SINGLE_DIRECTION_WORDINGS
    way = {"left": "to the left", "right": "to the right"}.get(clip.direction, clip.direction)
    question = rng.choice(wordings).format(kind=kind)
    return Turn("direction", question, f"The {kind} moves {way}.", STARTS[clip.direction])


def clip_colour_turn(rng: random.Random, clip: ClipScene) -> Turn:
    """Asks for the colour of the moving shape."""
    shape = clip.scene.shapes[0]
    question = rng.choice(COLOUR_WORDINGS).format(kind=shape.kind)
    answer = f"The {shape.kind} is {shape.colour}."
    return Turn("clip colour", question, answer, f"I see {article(shape.name)} {shape.name} move.")


def name_turns(rng: random.Random) -> tuple[Turn, Turn]:
    """A person tells a name, and asks for it later."""
    name = random_name(rng)
    statement = rng.choice(NAME_STATEMENTS).format(name=name)
    told = Turn("told", statement, f"Nice to meet you, {name}.", f"The name is {name}.")
    question = rng.choice(NAME_QUESTIONS)
    return told, Turn("recall", question, f"Your name is {name}.", f"The name is {name}.")


def small_talk_turn(rng: random.Random) -> Turn:
    """A greeting, thanks, or a question about the model itself."""
    kind = rng.random()
    if kind < 0.4:
        return Turn("identity", rng.choice(IDENTITY_QUESTIONS), IDENTITY_ANSWER, TALK)
    if kind < 0.75:
        return Turn("greeting", _loose_end(rng, rng.choice(GREETINGS)), GREETING_ANSWER, TALK)
    return Turn("thanks", _loose_end(rng, rng.choice(THANKS)), THANKS_ANSWER, TALK)


def no_picture_turn(rng: random.Random) -> Turn:
    """A question about a picture that nobody sent."""
    wordings = (
        *COLOUR_WORDINGS,
        *COUNT_WORDINGS,
        *PRESENCE_WORDINGS,
        *LIST_WORDINGS,
        *DIRECTION_WORDINGS,
    )
    kind, colour = rng.choice(SHAPES), rng.choice(tuple(COLOURS))
    name = f"{colour} {kind}"
    question = rng.choice(wordings).format(kind=kind, name=name, article=article(name))
    return Turn("no picture", question, NO_PICTURE_ANSWER, "There is no picture to look at.")


def sloppy(rng: random.Random, question: str) -> str:
    """The question as people type it: now and then in lower case or without its last mark."""
    if rng.random() < 0.12:
        question = question[0].lower() + question[1:]
    if rng.random() < 0.12:
        question = question.rstrip("?.")
    return question


def named(question: str) -> tuple[int, int, int]:
    """Which kind, colour and picture a question names first, counted from 1; 0 for none."""
    words = re.findall(r"\w+", question.lower())
    kind = next((1 + SHAPES.index(word) for word in words if word in SHAPES), 0)
    colours = list(COLOURS)
    colour = next((1 + colours.index(word) for word in words if word in colours), 0)
    numbers = {"1": 1, "first": 1, "2": 2, "second": 2}
    return kind, colour, next((numbers[word] for word in words if word in numbers), 0)


def random_name(rng: random.Random) -> str:
    """A common first name, or for half of the draws one that nobody has heard of."""
    if rng.random() < 0.5:
        return rng.choice(NAMES)
    syllables = rng.randint(1, 3)
    name = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables))
    return (name + rng.choice(_CODAS)).capitalize()


def _absent_name(rng: random.Random, scene: Scene, names: set[str], half_right: float) -> str:
    while True:
        shape = rng.choice(scene.shapes)
        kind, colour = rng.choice(SHAPES), rng.choice(tuple(COLOURS))
        lot = rng.random()
        if lot < half_right / 2:
            kind = shape.kind
        elif lot < half_right:
            colour = shape.colour
        name = f"{colour} {kind}"
        if name not in names:
            return name


def _loose_end(rng: random.Random, text: str) -> str:
    return text + rng.choice(("", ".", "!"))
