"""Questions from outside the demo model's world, which it says it cannot answer.

Training makes them from patterns; `outside_held_out.txt` has a hundred that training never uses.
"""

import random
from pathlib import Path

from tools.train_demo.questions import Turn
from tools.train_demo.tool_questions import random_sum, sum_question

OUTSIDE_ANSWER = "I only know coloured shapes, so I cannot answer that."
HELD_OUT = Path(__file__).with_name("outside_held_out.txt")

_WORDS = {
    "country": "France Japan Brazil Kenya Italy Canada Egypt India Norway Peru Spain Turkey Cuba",
    "town": "Paris London Tokyo Rome Cairo Lima Oslo Delhi Boston Vienna Dublin Prague Madrid",
    "food": "bread soup rice pizza pancakes curry salad pasta cheese omelettes cookies tea coffee",
    "animal": "dogs cats horses whales birds bees snakes tigers spiders penguins cows wolves fish",
    "thing": "cars trains phones clouds rain stars money love music rockets batteries bread boats",
    "job": "teacher doctor pilot lawyer nurse farmer baker painter plumber writer cook driver",
    "field": "physics history biology chemistry law economics poetry geology medicine grammar",
    "person": "Einstein Mozart Napoleon Cleopatra Shakespeare Darwin Gandhi Picasso Newton Plato",
    "language": "French German Spanish Italian Latin Greek Japanese Arabic Dutch Swedish Polish",
    "word": "house water friend morning thanks tree window summer bread freedom mother sea",
    "kind": "poem story letter joke song speech recipe essay riddle haiku report plan",
    "code": "Python Java Rust JavaScript Ruby Swift SQL Haskell Perl Bash",
    "sport": "football tennis chess golf swimming running cycling skiing boxing hockey",
    "time": "today tomorrow yesterday tonight now next week this year on Monday in winter",
    "year": "1789 1914 1945 1969 1989 2001 2010 2020 1066 1492",
}
WORDS = {name: tuple(words.split()) for name, words in _WORDS.items()}
_PATTERNS = """
What is the capital of {country}?
How many people live in {town}?
Where is {country}?
Is {town} in {country}?
What language do they speak in {country}?
How far is it from {town} to {town}?
How do I get to {town}?
What should I see in {town}?
How is the weather in {town}?
What is the weather like {time}?
Will it rain {time}?
What time is it?
What time is it in {town}?
What day is it {time}?
What is the date {time}?
How do I cook {food}?
How do I make {food}?
What goes well with {food}?
Is {food} healthy?
How long does {food} keep?
Who invented {food}?
Why do {animal} sleep?
What do {animal} eat?
How long do {animal} live?
Can {animal} swim?
Are {animal} dangerous?
How fast are {animal}?
How do {thing} work?
Why are {thing} important?
Who invented {thing}?
Tell me about {thing}.
Tell me something about {animal}.
Explain {field} to me.
Explain how {thing} work.
What is {field}?
What is {thing}?
How do I become a {job}?
What does a {job} do?
How much does a {job} earn?
Who was {person}?
When was {person} born?
When did {person} die?
What did {person} say?
Why is {person} famous?
Write a {kind} about {thing}.
Write me a {kind}.
Write a {kind} for my {job}.
Tell me a {kind}.
Can you write a {kind} about {animal}?
How do you say {word} in {language}?
Translate {word} into {language}.
What does {word} mean?
How do you spell {word}?
What rhymes with {word}?
Write a {code} program that sorts a list.
How do I learn {code}?
What is the best book on {code}?
Fix my {code} code.
Who won the {sport} match {time}?
How do I get better at {sport}?
What are the rules of {sport}?
Do you like {sport}?
What happened in {year}?
Who was president in {year}?
Who ruled {country} in {year}?
Should I buy {thing}?
How much do {thing} cost?
Where can I buy {food}?
Can you help me with my homework?
Can you help me with {field}?
What is the meaning of life?
Do you have feelings?
How old are you?
Are you human?
Where do you live?
What is your favourite {word}?
Give me some advice.
Give me three ideas for {time}.
What should I do {time}?
What should I eat {time}?
I am sad. What can I do?
My {word} is broken.
How do I fix my {word}?
Is it true that {animal} can fly?
Why is the sky blue?
What is the largest of all {animal}?
Compare {country} and {country}.
Summarise this text for me.
Which is better, {food} or {food}?
Set an alarm for {time}.
Play some music.
Send a message to my {job}.
Open the {word}.
Who made this {kind}?
Why?
And then?
Really?
"""
PATTERNS = tuple(_PATTERNS.strip().splitlines())
WITH_A_PICTURE = (
    "Who is the person in the picture?",
    "What animal is this?",
    "Is the {job} happy?",
    "What are the {animal} doing?",
    "Where was this photo taken?",
    "How many {animal} are there?",
    "Is this {food}?",
    "What breed is the dog?",
    "Who painted this?",
    "What does the {job} hold?",
    "Is it day or night?",
    "How old is the person?",
)


def outside_turn(rng: random.Random, with_picture: bool = False) -> Turn:
    """A question that has nothing to do with shapes; sums too, when no calculator is offered."""
    lot = rng.random()
    if lot < 0.06:
        question = sum_question(rng, random_sum(rng))
    else:
        patterns = WITH_A_PICTURE if with_picture and lot < 0.5 else PATTERNS
        question = _filled(rng, rng.choice(patterns))
        if rng.random() < 0.15:
            question = rng.choice(("Please: ", "Hello. ", "Tell me, ", "So, ")) + question
    return Turn("outside", question, OUTSIDE_ANSWER, "That has nothing to do with shapes.")


def held_out_questions() -> list[str]:
    """A hundred questions for judging."""
    return HELD_OUT.read_text(encoding="utf-8").splitlines()


def _filled(rng: random.Random, pattern: str) -> str:
    while "{" in pattern:
        name = pattern[pattern.index("{") + 1 : pattern.index("}")]
        pattern = pattern.replace(f"{{{name}}}", rng.choice(WORDS[name]), 1)
    return pattern
