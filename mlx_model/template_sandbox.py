"""The jinja2 sandbox that chat templates run in: what they may use, and how much work they may do.

Owns the lists of what is allowed and the metering; knows nothing of chats. jinja2's own sandbox
keeps a template away from Python, but lets it run for years or fill the memory in one line. Here
every round of a loop, call, filter, test, operator and piece of output is paid for out of a budget,
by the size of what it handles, and what could turn something small into something huge is measured
before it is done.
"""

import math
from collections.abc import (
    Callable,
    Container,
    ItemsView,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from types import BuiltinMethodType, CodeType, MethodType
from typing import Any, NoReturn

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.runtime import Context, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_TEXT_CHARACTERS = 32_000_000
_MAX_SOURCE_CHARACTERS = 100_000
_MAX_SOURCE_DEPTH = 60
_CHARACTERS_A_STEP = 16
_STEPS_A_CALL = 12
_MAX_EXPONENT = 64
_MAX_INTEGER_BITS = 4096

_CONTAINERS = (dict, list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_METHODS: dict[type, frozenset[str]] = {
    str: _names(
        "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit "
        "islower isnumeric isspace istitle isupper join lower lstrip partition removeprefix "
        "removesuffix replace rfind rindex rpartition rsplit rstrip split splitlines startswith "
        "strip swapcase title upper"
    ),
    dict: _names("copy get items keys values"),
    list: _names("copy count index"),
    tuple: _names("count index"),
}
# Left out are those that pad, fill in or split into words: chats need none, all can fill memory.
_FILTERS = _names(
    "abs capitalize count d default dictsort e escape first float groupby indent int items join "
    "last length list lower map max min reject rejectattr replace reverse safe select selectattr "
    "sort string trim truncate unique upper"
)
_GLOBALS = _names("range dict namespace cycler joiner")
# Filters that look at no more than their argument's first layer, filters and tests that not even
# look at that; all others may walk through everything in it.
_SHALLOW_FILTERS = _names("items list map reject rejectattr reverse select selectattr")
_INSTANT_FILTERS = _names("count d default first last length")
_INSTANT_TESTS = _names(
    "boolean callable defined false float integer iterable mapping none number sameas sequence "
    "string true undefined"
)
# What can make much out of little, and which of its arguments multiply.
_GROWING = {
    "indent": (0, 1),
    "join": (0, 1),
    "lstrip": (0, 1),
    "replace": (0, 2),
    "rstrip": (0, 1),
    "strip": (0, 1),
    "trim": (0, 1),
}
# Arguments that jinja2 adds to calls for its own use.
_SCOPES = ("_loop_vars", "_block_vars")
# Filters of our own, under names that no template can write.
_TEXT, _WHOLE, _OUTSIDE, _ROUND = " text", " whole", " outside", " round"


class WorkBudget:
    """Counts steps of work down; running out of them is a SecurityError."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise SecurityError("it works far longer than any chat needs")

    def spend_on(self, value: Any, *, deep: bool = True) -> None:
        """Pay for handling `value`, with everything inside it or just the outermost layer.

        What is reached twice counts twice, as it does for whoever writes or compares it.
        """
        waiting = [value]
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                self.spend(1 + len(value) // _CHARACTERS_A_STEP)
            elif isinstance(value, _CONTAINERS):
                self.spend(1 + len(value))
                if deep:
                    waiting.extend(value)
                    waiting.extend(value.values() if isinstance(value, dict) else ())
            elif isinstance(value, range):
                self.spend(1 + len(value))
            else:
                self.spend(1)
                if deep and isinstance(value, Namespace):
                    self.spend(_STEPS_A_CALL)
                    waiting.append(object.__getattribute__(value, "_Namespace__attrs"))


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """An environment for one rendering; what a template does in it is paid for from `budget`.

    Compile in one and render in another: both must have the same filters.
    """

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(
        self,
        budget: WorkBudget,
        extensions: Sequence[type[Extension]],
        filters: Mapping[str, Callable[..., Any]],
        functions: Mapping[str, Callable[..., Any]],
    ) -> None:
        # Not optimised: constants would be worked out while compiling, where nothing is paid.
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=extensions
        )
        self.budget = budget
        known: dict[str, Any] = self.filters
        known_tests: dict[str, Any] = self.tests
        own = {_TEXT: self._text, _WHOLE: self._whole, _OUTSIDE: self._outside, _ROUND: self._round}
        self.filters = {
            **{name: self._paid(name, known[name], _INSTANT_FILTERS) for name in _FILTERS},
            **{name: self._paid(name, function, ()) for name, function in filters.items()},
            **own,
        }
        self.tests = {
            name: self._paid(name, test, _INSTANT_TESTS) for name, test in known_tests.items()
        }
        self.globals = {name: self.globals[name] for name in _GLOBALS} | dict(functions)

    def compile_source(self, source: str) -> CodeType:
        """The template as a code object; TemplateSyntaxError says what is wrong with it."""
        if len(source) > _MAX_SOURCE_CHARACTERS:
            raise TemplateSyntaxError("it is far longer than any chat needs", 1)
        try:
            return self.compile(source)
        except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
            raise TemplateSyntaxError("it is nested too deeply", 1) from error

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        if _depth(source) > _MAX_SOURCE_DEPTH:
            raise TemplateSyntaxError("it is nested too deeply", 1)
        metered = _Metering().visit(source).set_environment(self)
        return super()._generate(metered, *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Listed methods of plain values, and what jinja2's own objects show."""
        for kind, methods in _METHODS.items():
            if isinstance(obj, kind):
                return attr in methods
        own = type(obj).__module__.startswith("jinja2.")
        return own and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Refuse str.format: its widths fill the memory, and no chat needs it."""
        is_method = isinstance(value, MethodType | BuiltinMethodType)
        if is_method and isinstance(value.__self__, str) and value.__name__.startswith("format"):
            raise SecurityError("it uses str.format")

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Subscription; a key made of other values is walked through by hashing it."""
        self.budget.spend_on(argument)
        return super().getitem(obj, argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """A call of a macro, method or function; the odd names leave all others to `kwargs`."""
        budget = __self.budget
        budget.spend(_STEPS_A_CALL)
        named = {name: value for name, value in kwargs.items() if name not in _SCOPES}
        for value in (*args, *named.values()):
            # A macro only passes its arguments on.
            budget.spend_on(value, deep=not isinstance(__obj, Macro))
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str | list | tuple):
            budget.spend_on(owner)
            args = tuple(_measured(__obj.__name__, (owner, *args), named))[1:]
        result = super().call(__context, __obj, *args, **kwargs)
        budget.spend_on(result, deep=False)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operator between two values."""
        for value in (left, right):
            self.budget.spend_on(value, deep=False)
        if operator == "%" and isinstance(left, str):
            raise SecurityError("it fills values into a text with %")
        if operator == "*" and _product_length(left, right) > MAX_TEXT_CHARACTERS:
            raise SecurityError("it repeats something too often")
        if operator == "**" and not -_MAX_EXPONENT <= right <= _MAX_EXPONENT:
            raise SecurityError("it computes too large a number")
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and result.bit_length() > _MAX_INTEGER_BITS:
            raise SecurityError("it computes too large a number")
        self.budget.spend_on(result, deep=False)
        return result

    def _paid(
        self, name: str, function: Callable[..., Any], instant: Container[str]
    ) -> Callable[..., Any]:
        """A filter or test that is paid for."""
        given = getattr(function, "jinja_pass_arg", None)  # jinja2's own first argument, if any
        first = 0 if given is None else 1

        def paid(*args: Any, **kwargs: Any) -> Any:
            self.budget.spend(_STEPS_A_CALL)
            if name in instant:
                return function(*args, **kwargs)
            for value in (*args[first:], *kwargs.values()):
                self.budget.spend_on(value, deep=name not in _SHALLOW_FILTERS)
            measured = _measured(name, args[first:], kwargs)
            result = function(*args[:first], *measured, **kwargs)
            self.budget.spend_on(result, deep=False)
            return result

        if given is not None:
            vars(paid)["jinja_pass_arg"] = given
        return paid

    # What `_Metering` puts into a template. They take the context, for jinja2 never works out at
    # compile time what depends on it.

    @pass_context
    def _text(self, context: Context, value: Any) -> str:
        self.budget.spend_on(value)
        return value if isinstance(value, str) else str(value)

    @pass_context
    def _whole(self, context: Context, value: Any) -> Any:
        self.budget.spend_on(value)
        return value

    @pass_context
    def _outside(self, context: Context, value: Any) -> Any:
        self.budget.spend_on(value, deep=False)
        return value

    @pass_context
    def _round(self, context: Context, size: int) -> bool:
        self.budget.spend(size)
        return True


class _Metering(NodeTransformer):
    """Writes into a parsed template what makes it pay."""

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_through(_TEXT, child) for child in node.nodes]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_through(_TEXT, child) for child in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _through(_WHOLE, node.expr)
        for operand in node.ops:
            operand.expr = _through(_WHOLE, operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _through(_OUTSIDE, node.node)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key = _through(_WHOLE, node.key)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        size = _size(node)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_round(size), lineno=node.lineno))
        if node.test is not None:
            node.test = nodes.And(_round(size), node.test, lineno=node.lineno)
        return node

    def visit_body(self, node: nodes.Macro | nodes.CallBlock | nodes.Block) -> nodes.Node:
        size = _size(node)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_round(size), lineno=node.lineno))
        return node

    visit_Macro = visit_CallBlock = visit_Block = visit_body

    def visit_other_file(self, node: nodes.Stmt) -> NoReturn:
        raise TemplateSyntaxError("it asks for another file", node.lineno)

    visit_Include = visit_Import = visit_FromImport = visit_Extends = visit_other_file


def _through(name: str, node: nodes.Expr) -> nodes.Expr:
    """`node` as seen through one of our own filters."""
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _round(size: int) -> nodes.Expr:
    return _through(_ROUND, nodes.Const(size, lineno=1))


def _size(node: nodes.Node) -> int:
    """How many nodes there are in `node`; what they handle is paid for besides."""
    return 1 + sum(_size(child) for child in node.iter_child_nodes())


def _depth(node: nodes.Node) -> int:
    return 1 + max(map(_depth, node.iter_child_nodes()), default=0)


def _measured(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any]:
    """The arguments, once it is sure that `name` makes nothing huge of them."""
    if name not in _GROWING:
        return args
    args = [list(value) if isinstance(value, Iterator) else value for value in args]
    factors = [args[place] for place in _GROWING[name] if place < len(args)]
    factors.extend(kwargs.values())
    containers = sum(isinstance(value, (range, *_CONTAINERS)) for value in factors)
    if containers > (name == "join"):
        raise SecurityError(f"it uses {name} on something that is not text")
    if math.prod(1 + _extent(value) for value in factors) > MAX_TEXT_CHARACTERS:
        raise SecurityError("it makes a text far longer than any chat needs")
    return args


def _extent(value: Any) -> int:
    if isinstance(value, int):
        return abs(value)
    if isinstance(value, (str, range, *_CONTAINERS)):
        return len(value)
    if value is None or isinstance(value, float | Undefined):
        return 0
    raise SecurityError(f"it makes a text of a {type(value).__name__}")


def _product_length(left: Any, right: Any) -> int:
    """How long left * right would be when one of them is a text or a list, else 0."""
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int):
            return len(sequence) * count
    return 0
