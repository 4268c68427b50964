"""Templates that mean harm, or merely go on for ever: each must end in a sentence."""

import pytest
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mlx_model.chat_template import BASE_STEPS, ChatTemplate
from mlx_model.errors import CheckpointError, FiresideError

HELLO = [{"role": "user", "content": "Hello"}]

REACHES_FOR_PYTHON = [
    "{{ messages.__class__.__mro__ }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ ''['__class__']['__mro__'] }}",
    "{{ (messages | attr('__class__')).__mro__ }}",
    "{{ (messages | map(attribute='__class__') | list)[0].__mro__ }}",
    "{{ [''] | map(attribute='__class__.__mro__') | list | string }}",
    "{{ [''] | groupby('__class__.__mro__') }}",
    "{{ [''] | sort(attribute='__class__.__mro__') }}",
    "{{ [''] | selectattr('__class__.__mro__') | list }}{{ undefined_name.field }}",
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{{ '{0.__class__}'['format'](1) }}",
    "{{ '%s' | format(1) }}",
    "{{ '%(a)s' % {'a': 1} }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "{{ raise_exception.__globals__['json'] }}",
    "{{ raise_exception.__call__('x') }}",
    "{{ strftime_now.__wrapped__ }}{{ strftime_now.__code__.co_consts }}",
    "{{ range.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__.__globals__.os }}",
    "{{ dict.__base__.__subclasses__() }}",
    "{{ dict.mro() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment.code }}",
    "{% macro f() %}{% endmacro %}{{ f._func.__code__.co_code }}",
    "{% macro f() %}{{ caller._environment.globals }}{% endmacro %}{% call f() %}{% endcall %}",
    "{% for m in messages %}{{ loop._iterator.gi_frame }}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}{{ ns.__class__.__mro__ }}",
    "{{ namespace(a=1)._Namespace__attrs.a }}",
    "{{ (messages | map('upper')).gi_frame.f_back }}",
    "{{ (1).to_bytes(9, 'big') }}",
    "{{ (1.0).hex() }}",
    "{{ ''.encode().hex() }}",
    "{{ ''.translate({}) }}",
    "{{ {}.fromkeys([1]) }}",
    "{{ messages.append(1) }}",
    "{{ messages.clear() }}",
    "{{ messages[0].update(role='system') }}",
    "{{ messages[0].pop('role') }}",
    "{{ messages[0].setdefault('x', 1) }}",
    "{{ messages.sort() }}",
    "{{ undefined_name.field }}",
    "{{ undefined_name() }}",
    "{{ messages() }}",
    "{{ 1 / 0 }}",
    "{{ messages | no_such_filter }}",
    "{{ messages is no_such_test }}",
    "{{ lipsum(100000) }}",
]

REACHES_FOR_FILES = [
    "{% include '/etc/passwd' %}",
    "{% include messages[0].content ignore missing %}",
    "{% import '/etc/passwd' as x %}",
    "{% from '/etc/passwd' import x %}",
    "{% extends '/etc/passwd' %}",
    "{% if false %}{% include 'x' %}{% endif %}",
]

FILLS_THE_MEMORY = [
    "{{ 'x' * 10 ** 9 }}",
    "{% set a = 10 ** 9 * 'x' %}{{ a | length }}",
    "{% set a = [1] * 10 ** 9 %}{{ a | length }}",
    "{% set a = 'x' * 30000000 %}{% set b = a * 30000000 %}",
    "{{ 10 ** 10000000 }}",
    "{{ 2 ** 64 ** 64 ** 64 }}",
    "{% set ns = namespace(n=10) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}"
    "{% endfor %}",
    "{% set ns = namespace(n=10) %}{% for i in range(99) %}{% set ns.n = ns.n ** 64 %}{% endfor %}",
    "{{ 10.0 ** 400 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ 'x' | center(1000000000) }}",
    "{{ 'x'.center(1000000000) }}",
    "{{ 'x'.ljust(1000000000) }}",
    "{{ 'x'.zfill(1000000000) }}",
    "{{ '\t'.expandtabs(1000000000) }}",
    "{{ 'x\ny' | indent(1000000000) }}",
    "{{ 'x\ny' | indent(width=1000000000, first=true) }}",
    "{{ 'x y' | wordwrap(1, wrapstring='y' * 1000000) }}",
    "{{ [1] | tojson(indent=1000000000) }}",
    "{{ [1] | tojson(indent='x' * 1000000) }}",
    "{{ [1, 2] | tojson(separators=('x' * 1000000, ':')) }}",
    "{{ 1.5 | round(1000000000, 'ceil') }}",
    "{{ [1] | batch(1000000000, 'x') | list }}",
    "{{ [1] | slice(1000000000) | list }}",
    "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
    "{{ ('x' * 1000000).replace('', 'y' * 1000000) }}",
    "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
    "{{ ('x' * 1000000) | replace(old='x', new='y' * 1000000) }}",
    "{{ range(90000) | join('x' * 1000000) }}",
    "{{ range(90000) | map('string') | join('x' * 1000000) }}",
    "{{ range(90000) | join(d='x' * 1000000) }}",
    "{{ range(90000) | join(['x' * 1000000]) }}",
    "{{ ('x' * 1000000).join(range(90000) | map('string')) }}",
    "{{ [range(90000) | list] | sum(start=[]) }}",
    "{{ strftime_now('%c' * 1000000) }}",
    "{{ raise_exception('x' * 30000000) }}{{ 1 / 0 }}",
    # Grows by half in each round.
    "{% set ns = namespace(s='x') %}"
    "{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s | length }}",
    "{% set ns = namespace(s='x') %}"
    "{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s | length }}",
    "{% set ns = namespace(s=[1]) %}"
    "{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s | length }}",
    "{% set ns = namespace(s='x') %}"
    "{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}",
    "{% set ns = namespace(s='x') %}"
    "{% for i in range(99) %}{% set t %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = t %}"
    "{% endfor %}",
    "{% set ns = namespace(s='<') %}"
    "{% for i in range(99) %}{% set ns.s = ns.s | string | escape | string %}{% endfor %}"
    "{{ ns.s | length }}{{ 1 / 0 }}",
    # Small in memory, and without end for whoever writes, compares or hashes it.
    *(
        "{% set ns = namespace(s=[1]) %}{% set nt = namespace(s=[1]) %}"
        "{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% set nt.s = [nt.s, nt.s] %}"
        f"{{% endfor %}}{use}"
        for use in (
            "{{ ns.s }}",
            "{{ ns.s | string }}",
            "{{ ns.s ~ '' }}",
            "{{ ns.s | tojson }}",
            "{{ ns.s | safe }}",
            "{{ ns.s | upper }}",
            "{{ ns.s | join }}",
            "{{ ns }}",
            "{{ ns.s == nt.s }}",
            "{{ ns.s in [nt.s] }}",
            "{{ ns.s is eq(nt.s) }}",
            "{{ ns.s is in([nt.s]) }}",
            "{{ [ns.s].index(nt.s) }}",
            "{{ [ns.s, nt.s] | sort }}",
            "{{ [ns.s, nt.s] | select('eq', ns.s) | list }}",
            "{{ dict(a=ns.s).values() }}",
            "{{ raise_exception(ns.s) }}",
        )
    ),
    *(
        "{% set ns = namespace(s=(1,)) %}"
        f"{{% for i in range(60) %}}{{% set ns.s = (ns.s, ns.s) %}}{{% endfor %}}{use}"
        for use in (
            "{{ {ns.s: 1} }}",
            "{{ {}[ns.s] }}",
            "{{ {}.get(ns.s) }}",
            "{{ [ns.s, ns.s] | unique | list }}",
        )
    ),
]

GOES_ON_FOR_EVER = [
    "{% for i in range(10 ** 9) %}{% endfor %}",
    "{% for a in range(90000) %}{{ 'x' * 1000 }}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% continue %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% set x = range(99999) | map('string') | list %}{% endfor %}",
    "{% for a in range(99999) %}{{ range(99999) | select('odd') | list | length }}{% endfor %}",
    "{% for a in range(99999) %}{{ range(99999) | sum }}{% endfor %}",
    "{% for a in range(99999) %}{{ range(99999) | list | last }}{% endfor %}",
    "{% for a in range(99999) %}{{ range(99999)[::-1] | length }}{% endfor %}",
    "{% set s = range(99999) | list %}{% for a in s %}{% set t = s[::-1] %}{% endfor %}",
    "{% set s = range(99999) | list %}{% for a in s %}{% if s == s[:] %}{% endif %}{% endfor %}",
    "{% set s = range(99999) | list %}{% for a in s %}{% if -1 in s %}{% endif %}{% endfor %}",
    "{% set s = 'x' * 9000000 %}{% for a in range(99999) %}{% if 'y' in s %}{% endif %}"
    "{% endfor %}",
    "{% set s = 'x' * 9000000 %}{% for a in range(99999) %}{{ s.find('y') }}{% endfor %}",
    "{% set s = 'x' * 9000000 %}{% for a in range(99999) %}{% set t = s.split('x') %}{% endfor %}",
    "{{ ('x' * 9000000).strip('y' * 9000000 ~ 'x') }}",
    "{{ ('x' * 9000000) | trim('y' * 9000000 ~ 'x') }}",
    "{% set s = 'x' * 9000000 %}{% for a in range(99999) %}{% set t = s | trim %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
    "{% macro f(n) %}{% if n and f(n - 1) and f(n - 1) %}{% endif %}x{% endmacro %}{{ f(90) }}",
    "{% macro f(n) %}{% if n %}{% call f(n - 1) %}{% endcall %}{% call f(n - 1) %}{% endcall %}"
    "{% endif %}{% endmacro %}{% call f(90) %}{% endcall %}",
    "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "{% for x in [[[1], [2]], [[3]]] recursive %}{{ loop(messages) }}{{ loop([x, x]) }}"
    "{% endfor %}",
    "{% for m in messages recursive %}{{ loop(messages) }}{{ loop(messages) }}{% endfor %}",
    "{% for a in range(99999) %}" + "{% set b = a %}" * 2000 + "{% endfor %}",
    "{% macro f() %}" + "{% set b = 1 %}" * 2000 + "{% endmacro %}"
    "{% for a in range(99999) %}{{ f() }}{% endfor %}",
    "{% for a in range(99999) %}" + "x" * 50000 + "{% endfor %}",
    "{% set ns = namespace() %}{% set ns.ns = ns %}{{ ns }}{{ ns == [ns] }}{{ 1 / 0 }}",
    "{% set c = cycler(*range(99999)) %}{% for a in range(99999) %}{% for b in range(99999) %}"
    "{{ c.next() }}{% endfor %}{% endfor %}",
]

NESTED_TOO_DEEPLY = [
    "{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}",
    "{{ " + "[" * 9000 + "]" * 9000 + " }}",
    "{{ a" + " | upper" * 9000 + " }}",
    "{{ a" + " | upper" * 150 + " }}",
    "{{ a" + ".b" * 150 + " }}",
    "{{ " + "not " * 150 + "a }}",
    "{{ " + "a if b else " * 9000 + "a }}",
    "{% if a %}" * 9000 + "{% endif %}" * 9000,
    "{% for a in b %}" * 90 + "{% endfor %}" * 90,
    "{{ " + "1 + " * 9000 + "1 }}",
    "{{ " + "9" * 9000 + " }}",
    "{# " + "x" * 200_000 + " #}",
    "{{ 1 }}" * 20_000,
]


# What chat templates are made of; each has to come out as it does without any metering.
WELL_BEHAVED = [
    "{% for m in messages %}{{ loop.index }}{{ loop.last }}{{ loop.length }}{{ m.role }}"
    "{% endfor %}",
    "{% for m in messages[::-1] %}{{ m['content'] }}{% else %}none{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ m.content }}{{ loop.length }}{% endfor %}",
    "{% for a, b in {'x': 1, 'y': 2}.items() %}{{ a }}={{ b }};{% endfor %}",
    "{% for a, b in messages[0] | items %}{{ a ~ ':' ~ b }}{% endfor %}",
    "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}"
    "{% break %}{% endfor %}",
    "{% for x in [1, [2, [3]]] recursive %}{{ x if x is number else loop(x) }},{% endfor %}",
    "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [] %}{{ x }}{% else %}empty{% endfor %}{{ range(3) | list }}"
    "{{ range(5)[1:3] | list }}",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1) }}"
    "{{ f(1, 3, 4, c=5) }}",
    "{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(9) | upper }}",
    "{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in{{ 1 + 1 }}side{% endcall %}",
    "{% for m in messages %}{% macro f(x) %}{{ x }}{{ loop }}{% endmacro %}{{ f(m.role) }}"
    "{% endfor %}",
    "{% set ns = namespace(a=0, b=[]) %}{% for i in range(4) %}{% set ns.a = ns.a + i %}"
    "{% set ns.b = ns.b + [i] %}{% endfor %}{{ ns.a }}{{ ns.b }}",
    "{% set x %}a{{ 1 }}b{% endset %}{{ x }}{{ x | length }}{% set y | upper %}"
    "c{% endset %}{{ y }}",
    "{% filter upper %}a{{ 'b' }}{% endfilter %}{% with z = 1 %}{{ z }}{% endwith %}"
    "{{ z is defined }}",
    "{% if 1 < 2 < 3 and not 3 in [1, 2] or none %}yes{% elif x %}no{% endif %}"
    "{{ 'a' if x else 'b' }}",
    "{{ [1, 'a', none, true, 1.0, (1, 2), {'a': [1]}] }}{{ undefined_name }}{{ none }}"
    "{{ -1 ** 2 }}",
    "{{ 7 // 2 }}{{ 7 % 4 }}{{ 7 / 2 }}{{ 2 ** 10 }}{{ 'ab' * 3 }}{{ [1] + [2] }}"
    "{{ 'a' + 'b' ~ 1 }}",
    "{{ ' a b '.strip().split(' ') | join('-') }}{{ 'aXb'.lower().upper().title() }}"
    "{{ 'a-b'.partition('-') }}",
    "{{ '\\n a'.lstrip('\\n') }}{{ 'a,b,c'.rsplit(',', 1)[-1] }}"
    "{{ 'abc'.startswith('ab') }}{{ 'abc'[1:] }}",
    "{{ 'abc'.replace('b', 'xyz') }}{{ 'abc' | replace('b', '') }}"
    "{{ ', '.join(['a', 'b']) }}{{ 'a'.find('b') }}",
    "{{ messages | map(attribute='role') | join(', ') }}"
    "{{ messages | selectattr('role', 'eq', 'user') | list }}",
    "{{ [3, 1, 2] | sort | first }}{{ [3, 1] | max }}{{ ['a', 'a'] | unique | list }}"
    "{{ 'x' | default('y') }}",
    "{{ messages[0].get('role') }}{{ messages[0].get('x', 'd') }}"
    "{{ messages[0].keys() | list }}{{ messages | last }}",
    "{{ 'a\\nb' | indent(2) }}{{ '3' | int + 1 }}{{ 'abc' | truncate(2, true, '', 0) }}"
    "{{ {'b': 1, 'a': 2} | dictsort }}",
    "{{ messages is iterable }}{{ 'a' is string }}{{ {} is mapping }}{{ 1 is number }}"
    "{{ [] is sequence }}"
    "{{ x is undefined }}{{ none is none }}{{ 2 is even }}{{ true is true }}"
    "{{ 1 is eq(1) }}{{ 1 is in([1]) }}",
    "{% autoescape true %}{{ '<' }}{{ '<' | safe }}<{% set a = '<' | e %}{{ a }}"
    "{% endautoescape %}{{ '<' }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{% set j = joiner(',') %}"
    "{{ j() }}1{{ j() }}2",
    "{% raw %}{{ x }}{% endraw %}{# no #}  {%- if true -%}  a  {%- endif +%}"
    "  b\n  {% set q = 1 %}\n  {{ q }}",
    "{% block b %}in{{ 1 }}{% endblock %}{{ self.b() }}{{ dict(a=1).a }}"
    "{{ [[1, 2], [3]] | map('first') | list }}",
]


def stopped(source: str, steps: int) -> str:
    """The sentence that a template ends in."""
    with pytest.raises(FiresideError) as caught:
        ChatTemplate(source, steps).render([dict(turn) for turn in HELLO])
    return str(caught.value)


@pytest.mark.parametrize(
    "source",
    [*REACHES_FOR_PYTHON, *FILLS_THE_MEMORY, *GOES_ON_FOR_EVER],
    ids=lambda source: source[:70],
)
def test_a_hostile_template_is_stopped(source: str) -> None:
    """With less patience than in life, for what is stopped sooner is stopped all the same."""
    sentence = stopped(source, BASE_STEPS // 20)
    assert sentence.startswith(("The model's chat template", "The conversation"))
    assert len(sentence) < 1000
    assert "\n" not in sentence


# So few rounds that only what each of them copies can be too much.
COPIES = "{% set s = range(20000) | list %}{% for a in s %}{% set t = s[::-1] %}{% endfor %}"


@pytest.mark.parametrize("source", [GOES_ON_FOR_EVER[2], FILLS_THE_MEMORY[-1], COPIES])
def test_patience_ends_in_life_too(source: str) -> None:
    assert "far longer than any chat needs" in stopped(source, BASE_STEPS)


@pytest.mark.parametrize("source", REACHES_FOR_FILES)
def test_a_template_that_asks_for_a_file_is_refused_at_once(source: str) -> None:
    with pytest.raises(CheckpointError, match="asks for another file"):
        ChatTemplate(source)


@pytest.mark.parametrize("source", NESTED_TOO_DEEPLY, ids=lambda source: source[:20])
def test_a_template_that_no_chat_needs_is_refused_at_once(source: str) -> None:
    with pytest.raises(CheckpointError, match=r"nested too deeply|far longer than any chat"):
        ChatTemplate(source)


@pytest.mark.parametrize("source", WELL_BEHAVED, ids=lambda source: source[:70])
def test_metering_changes_nothing(source: str) -> None:
    plain = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    turns = [*HELLO, {"role": "assistant", "content": "Hi"}]
    assert ChatTemplate(source).render(turns) == plain.from_string(source).render(messages=turns)


def test_a_long_conversation_is_given_more_patience() -> None:
    turns = [{"role": "user", "content": "Hello " * 20}] * 20_000
    source = "{% for m in messages %}{{ m.role ~ m.content | trim }}{% endfor %}"
    assert len(ChatTemplate(source, base_steps=0).render(turns)) > 2_000_000


def test_rendering_leaves_the_conversation_as_it_was() -> None:
    turns = [{"role": "user", "content": ["a"]}]
    source = "{% set m = messages[0].copy() %}{% set c = m.content + ['b'] %}{{ c }}"
    assert ChatTemplate(source).render(turns) == "['a', 'b']"
    assert turns == [{"role": "user", "content": ["a"]}]
