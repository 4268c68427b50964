"""Sums, which the model has a calculator for when one is offered."""

import random
from dataclasses import dataclass

from tools.train_demo.questions import Turn

SUM_WORDINGS = (
    "What is {sum}?",
    "How much is {sum}?",
    "Please work out {sum}.",
    "Can you calculate {sum}?",
    "{sum} = ?",
    "I need to know {sum}.",
)
SIGNS = {"+": "plus", "-": "minus", "*": "times"}
DESCRIPTIONS = (
    "Works out a sum.",
    "Evaluates an arithmetic expression.",
    "A calculator.",
    "Calculates the value of an expression and returns it.",
    "Does arithmetic.",
)
OTHERS = {
    "weather": ("The weather in a town.", "town"),
    "search": ("Searches the notes of the person.", "query"),
    "clock": ("The time in a town.", "town"),
}


@dataclass(frozen=True, slots=True)
class Sum:
    """Two numbers and what is done with them."""

    first: int
    sign: str
    second: int

    @property
    def expression(self) -> str:
        """As the calculator wants it."""
        return f"{self.first} {self.sign} {self.second}"

    @property
    def result(self) -> int:
        """What comes out."""
        if self.sign == "+":
            return self.first + self.second
        return self.first - self.second if self.sign == "-" else self.first * self.second


def random_sum(rng: random.Random) -> Sum:
    """Numbers of up to three digits."""
    first, second = (rng.randint(0, rng.choice((9, 99, 999))) for _ in range(2))
    return Sum(first, rng.choice("++-*"), second)


def sum_question(rng: random.Random, asked: Sum) -> str:
    """One of the ways to ask for it, with its sign or in words."""
    sign = asked.sign if rng.random() < 0.7 else SIGNS[asked.sign]
    return rng.choice(SUM_WORDINGS).format(sum=f"{asked.first} {sign} {asked.second}")


def call_turns(rng: random.Random, asked: Sum) -> tuple[Turn, Turn]:
    """The question with the call as its answer; then the tool's result with the real answer."""
    call = (
        "<tool_call>\n<function=calculator>\n<parameter=expression>\n"
        f"{asked.expression}\n</parameter>\n</function>\n</tool_call>"
    )
    result = f"<tool_response>\n{asked.result}\n</tool_response>"
    return (
        Turn("call", sum_question(rng, asked), call, "I use the calculator."),
        Turn("result", result, f"{asked.expression} is {asked.result}.", "The result is there."),
    )


def random_tools(rng: random.Random) -> tuple[dict[str, object], ...]:
    """A calculator, now and then beside another tool."""
    tools = [_tool("calculator", rng.choice(DESCRIPTIONS), "expression")]
    if rng.random() < 0.3:
        name = rng.choice(tuple(OTHERS))
        tools.insert(rng.randint(0, 1), _tool(name, *OTHERS[name]))
    return tuple(tools)


def _tool(name: str, description: str, parameter: str) -> dict[str, object]:
    parameters = {
        "type": "object",
        "properties": {parameter: {"type": "string"}},
        "required": [parameter],
    }
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}
