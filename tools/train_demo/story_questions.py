"""What a person may ask about a clip in which something happens, and the right answer."""

import random
from collections.abc import Sequence

from tools.train_demo.questions import Turn
from tools.train_demo.stories import Actor, Event, Story

TIME_WORDINGS = (
    "When does the {kind} {verb}?",
    "At what time does the {kind} {verb}?",
    "At which second does the {kind} {verb}?",
    "Tell me when the {kind} {event}.",
)
VERBS = {"appears": "appear", "leaves": "leave", "changes colour": "change colour"}
FIRST_WORDINGS = (
    "What happens first?",
    "What happens first in the clip?",
    "Which comes first?",
    "What is the first thing that happens?",
)
BOUNCE_WORDINGS = (
    "How many times does the {kind} bounce?",
    "How many times does it bounce?",
    "How often does the {kind} bounce?",
    "Count the bounces.",
)
CHANGE_WORDINGS = (
    "How many times does the {kind} change colour?",
    "How many times does it change colour?",
    "How often does the {kind} change its colour?",
    "How many times does the {kind} change color?",
)


def time_turn(rng: random.Random, story: Story, frame_times_s: Sequence[float]) -> Turn:
    """Asks when a shape appears or leaves.

    The answer lies between the frames that show it and those that do not: no look at the frames
    can tell more.
    """
    actor = rng.choice([actor for actor in story.actors if actor.events])
    event = rng.choice(actor.events)
    kind, verb = actor.shape.kind, VERBS[event.kind]
    question = rng.choice(TIME_WORDINGS).format(kind=kind, verb=verb, event=event.kind)
    answer = f"The {kind} {event.kind} at <{between_frames(event, frame_times_s):.1f} seconds>."
    return Turn("time", question, answer, f"I see {actor_name(actor)}.")


def first_turn(rng: random.Random, story: Story) -> Turn:
    """Asks which of two things happens first."""
    happenings = [(event, actor) for actor in story.actors for event in actor.events]
    event, actor = min(happenings, key=lambda happening: happening[0].time_s)
    answer = f"First the {actor.shape.kind} {event.kind}."
    thought = f"I see {' and '.join(actor_name(actor) for actor in story.actors)}."
    return Turn("first", rng.choice(FIRST_WORDINGS), answer, thought)


def bounce_turn(rng: random.Random, story: Story) -> Turn:
    """Asks how often the shape turns back."""
    actor = story.actors[0]
    count = actor.swing.bounces if actor.swing else 0
    question = rng.choice(BOUNCE_WORDINGS).format(kind=actor.shape.kind)
    answer = f"The {actor.shape.kind} bounces {times(count)}."
    return Turn("bounces", question, answer, f"I see {actor_name(actor)} move.")


def change_turn(rng: random.Random, story: Story) -> Turn:
    """Asks how often the shape changes its colour."""
    actor = story.actors[0]
    kind, colours = actor.shape.kind, [actor.shape.colour] + [look[1] for look in actor.looks]
    question = rng.choice(CHANGE_WORDINGS).format(kind=kind)
    answer = f"The {kind} changes colour {times(len(colours) - 1)}."
    return Turn("changes", question, answer, f"The {kind} is {', then '.join(colours)}.")


def between_frames(event: Event, frame_times_s: Sequence[float]) -> float:
    """The middle between the last frame before an event and the first one after it."""
    before = max((t for t in frame_times_s if t < event.time_s), default=event.time_s)
    after = min((t for t in frame_times_s if t >= event.time_s), default=event.time_s)
    return (before + after) / 2


def actor_name(actor: Actor) -> str:
    """ "a red circle", as it looks at first."""
    name = actor.shape.name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def times(count: int) -> str:
    """ "1 time", "2 times"."""
    return "1 time" if count == 1 else f"{count} times"
