"""Patterns of conditions: searched for as JavaScript does, within a bound whatever the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.common.assign.assign import (
    Context,
    Definitions,
    Experiment,
    Flag,
    Prerequisite,
    Reason,
    Rule,
    Variant,
    evaluate,
    evaluate_flag,
)
from services.common.assign.checks import errors_of
from services.common.assign.patterns.automaton import Automaton
from services.common.assign.patterns.pattern import (
    MAX_STEPS,
    MAX_STEPS_ALONE,
    MAX_TEXT_CHARACTERS,
    Pattern,
)
from services.common.assign.patterns.steps import ENDLESS, search_steps
from services.common.assign.patterns.translation import translated
from services.common.assign.patterns.tree import parsed

EVIL = [
    # (pattern, a long text that has it, a long one that has not)
    (r"(a+)+$", "a" * 1_000, "a" * 1_000 + "!"),
    (r"^(a|aa)+$", "a" * 1_000, "a" * 1_000 + "!"),
    (r"^(\w+\s?)*$", "ab " * 300, "ab " * 300 + "!"),
    (r"(.*a){20}$", "a" * 1_000, "a" * 1_000 + "!"),
    ("^" + "a?" * 30 + "a" * 30 + "$", "a" * 60, "a" * 900),
    (r"(x+x+)+y", "x" * 1_000 + "y", "x" * 1_000),
    (r"(a*)*b", "a" * 1_000 + "b", "a" * 1_000),
    (r"(a|b|ab)*c", "ab" * 500 + "c", "ab" * 500),
    (r"((?i:a)+)+$", "aA" * 500, "aA" * 500 + "!"),
    (r".*.*.*.*=.*", "=" * 1_000, "x" * 1_000),
    (r"^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 900 + "Aa", "a" * 1_000),
    (r"(?:(?:(?:a?){10}){5}){2}b", "a" * 99 + "b", "a" * 1_000),
]

HARMLESS = [
    (r"^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$", "first.last@example.com", "first.last@example"),
    (r"@(?:corp|staff)\.example\.com$", "a@staff.example.com", "a@example.com"),
    (r"^\d+\.\d+\.\d+$", "10.2.33", "10.2"),
    (r"https?://.*\.example\.com/.*checkout.*", "https://a.example.com/x/checkout", "https://a"),
    (r"^(?!.*@internal\.com).*$", "a@example.com", "a@internal.com"),
    (r"^(?=.*\d)(?=.*[a-z]).{8,}$", "abcdefg1", "abcdefgh"),
    (r"(Mobile|Tablet)", "a Tablet", "a desk"),
    (r"^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$", "0" * 8 + "-0000" * 3 + "-" + "0" * 12, ""),
    (r"(?<x>l)\k<x>", "hello", "halo"),
    (r"(\w)\1", "aa", "ab"),
    (r"^/(?:us|ca)/pricing(?:/|$)", "/ca/pricing", "/ca/pricings"),
    (r"\bpro\b", "a pro.", "a process"),
    ("^(?:" + "|".join(f"user-{n}" for n in range(100)) + ")$", "user-42", "user-420"),
]

REFUSED = [
    (r"(a+)+\1$", f"more than {MAX_STEPS_ALONE} steps in {MAX_TEXT_CHARACTERS} characters"),
    (r"(?=(a+)+$)b", "looks around or back"),
    (r"(.*)\1$", "looks around or back"),
    (r"(?:a{0,100}){0,100}", "states, repeats written out"),
    (r"(?:(?:\b){9999}){9999}", "states, repeats written out"),
    ("a" * 1_001, "more than 1000 characters"),
    ("(", "is not a pattern"),
]


@pytest.mark.parametrize(("pattern", "has", "has_not"), EVIL)
def test_what_would_take_for_ever_goes_by_its_automaton(
    pattern: str, has: str, has_not: str
) -> None:
    found = Pattern(pattern, insensitive=False)
    assert found.direct <= 16
    assert found.is_found_in(has)
    assert not found.is_found_in(has_not)


@pytest.mark.parametrize(("pattern", "has", "has_not"), HARMLESS)
@pytest.mark.parametrize("insensitive", [False, True])
def test_what_is_harmless_is_searched_for(
    pattern: str, has: str, has_not: str, insensitive: bool
) -> None:
    found = Pattern(pattern, insensitive=insensitive)
    assert found.is_found_in(has)
    assert not found.is_found_in(has_not)
    assert found.is_found_in(has.upper()) or not insensitive


@pytest.mark.parametrize(("pattern", "message"), REFUSED)
def test_what_can_not_be_bounded_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Pattern(pattern, insensitive=False)


def test_an_empty_text_has_a_place_that_is_no_boundary() -> None:
    assert Pattern(r"\B", insensitive=False).is_found_in("")
    assert not Pattern(r"^\B", insensitive=False).is_found_in("a")


@pytest.mark.parametrize("pattern", ["a", r"(a+)+$"])
def test_nothing_is_found_in_a_text_that_is_too_long(pattern: str) -> None:
    found = Pattern(pattern, insensitive=False)
    assert found.is_found_in("a" * MAX_TEXT_CHARACTERS)
    assert not found.is_found_in("a" * (MAX_TEXT_CHARACTERS + 1))


_ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", "^", "$", r"\b", r"\B", "A", "é"])
_REPEATS = ["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?", "+?", "??"]
PATTERNS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(_REPEATS)).map(lambda two: f"({two[0]}){two[1]}"),
    ),
    max_leaves=8,
)
TEXTS = st.text("abAÉ-\n", max_size=7)


@settings(max_examples=400, deadline=None)
@given(PATTERNS, st.booleans(), st.lists(TEXTS, min_size=1, max_size=5))
def test_an_automaton_finds_what_pythons_engine_finds(
    pattern: str, insensitive: bool, texts: list[str]
) -> None:
    flags = re.IGNORECASE if insensitive else re.NOFLAG
    tree = parsed(translated(pattern), flags)
    # Rounds that take nothing are where engines differ.
    assume(search_steps(tree, 7) < ENDLESS)
    automaton, engine = Automaton(tree), re.compile(translated(pattern), flags)
    for text in (*texts, *texts):
        assert automaton.searches(text) == (engine.search(text) is not None)


@settings(max_examples=400, deadline=None)
@given(PATTERNS, TEXTS)
def test_no_search_takes_more_steps_than_its_bound(pattern: str, text: str) -> None:
    tree = parsed(translated(pattern), re.NOFLAG)
    bound = search_steps(tree, len(text))
    assume(bound <= 20_000)
    engine = _Engine(text)
    found = engine.searches(tree)
    assert engine.steps <= bound
    assert found == (re.search(translated(pattern), text) is not None)


@settings(max_examples=200, deadline=None)
@given(PATTERNS)
def test_whatever_is_accepted_is_bounded_for_every_text(pattern: str) -> None:
    try:
        found = Pattern(pattern, insensitive=False)
    except ValueError:
        return
    tree = parsed(translated(pattern), re.NOFLAG)
    if found.direct < MAX_TEXT_CHARACTERS:
        assert found.direct < 0 or search_steps(tree, found.direct) <= MAX_STEPS
        Automaton(tree)
    else:
        assert search_steps(tree, MAX_TEXT_CHARACTERS) <= MAX_STEPS_ALONE


class _Engine:
    """A backtracking engine without any of a real one's shortcuts, which counts what it tries. For
    trees without look-around and references."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.steps = 0

    def searches(self, tree: Any) -> bool:
        starts = 1 if self._is_anchored(tree) else len(self._text) + 1
        return any(True for at in range(starts) for _ in self._ends(_nodes(tree), at))

    def _is_anchored(self, tree: Any) -> bool:
        if not len(tree):
            return False
        name, argument = tree[0][0].name, tree[0][1]
        if name == "SUBPATTERN":
            return self._is_anchored(argument[3])
        return bool(name == "AT" and argument.name == "AT_BEGINNING")

    def _ends(self, nodes: list[tuple[str, Any]], at: int) -> Iterator[int]:
        """Where the nodes may end that begin at a place, each way once."""
        if not nodes:
            yield at
            return
        self.steps += 1
        for middle in self._one(*nodes[0], at):
            yield from self._ends(nodes[1:], middle)

    def _one(self, name: str, argument: Any, at: int) -> Iterator[int]:
        if name == "SUBPATTERN":
            yield from self._ends(_nodes(argument[3]), at)
        elif name == "BRANCH":
            for part in argument[1]:
                yield from self._ends(_nodes(part), at)
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            yield from self._rounds(*argument, at)
        elif name == "AT":
            if self._holds(argument.name, at):
                yield at
        elif at < len(self._text) and _takes(name, argument, self._text[at]):
            yield at + 1

    def _rounds(self, least: int, most: int, body: Any, at: int) -> Iterator[int]:
        if most > 0:
            for middle in self._ends(_nodes(body), at):
                yield from self._rounds(max(0, least - 1), most - 1, body, middle)
        if least == 0:
            yield at

    def _holds(self, name: str, at: int) -> bool:
        text = self._text
        if name == "AT_BEGINNING":
            return at == 0
        if name == "AT_END_STRING":
            return at == len(text)
        before, after = (c.isascii() and c.isalnum() for c in (text[:at][-1:], text[at : at + 1]))
        boundary = before != after
        # Python's engine knows no places at all in an empty text.
        return bool(text) and boundary == (name == "AT_BOUNDARY")


def _nodes(tree: Any) -> list[tuple[str, Any]]:
    return [(operation.name, argument) for operation, argument in tree]


def _takes(name: str, argument: Any, character: str) -> bool:
    if name == "LITERAL":
        return ord(character) == argument
    if name == "NOT_LITERAL":
        return ord(character) != argument
    negated, within = False, False
    for operation, what in argument:
        if operation.name == "NEGATE":
            negated = True
        elif operation.name == "LITERAL":
            within |= ord(character) == what
        else:
            within |= what[0] <= ord(character) <= what[1]
    return within != negated


EVIL_CONDITION = {"name": {"$regex": r"(a+)+\1$"}}


def _definitions(condition: dict[str, object]) -> Definitions:
    experiment = Experiment("e", "user", "e_1", (Variant("a", 1.0),), condition=condition)
    flag = Flag("f", "no", (Rule(condition=condition, value="yes"),))
    return Definitions({"e": experiment}, "", {"f": flag})


def test_checks_name_a_pattern_that_is_refused_and_evaluation_finds_it_nowhere() -> None:
    definitions = _definitions(EVIL_CONDITION)
    places = [".".join(map(str, at)) for at, why in errors_of(definitions) if "steps" in why]
    assert places == [
        "experiments.e.condition.name.$regex",
        "flags.f.rules.0.condition.name.$regex",
    ]
    context = Context({"user": "u"}, {"name": "aa"})
    (assignment,) = evaluate(definitions, context).assignments
    assert assignment.reason is Reason.NOT_TARGETED
    assert evaluate_flag(definitions, "f", context).value == "no"
    told = definitions.compiled.refused
    assert [line.split(": ")[:2] for line in told] == [
        ["experiment 'e'", "name.$regex"],
        ["flag 'f'", "name.$regex"],
    ]


def test_a_pattern_that_is_negated_is_found_nowhere_either() -> None:
    definitions = _definitions({"$not": EVIL_CONDITION})
    (assignment,) = evaluate(definitions, Context({"user": "u"}, {"name": "aa"})).assignments
    assert assignment.reason is Reason.SPLIT


def test_patterns_of_prerequisites_are_told_too() -> None:
    needed = Prerequisite("f", {"value": {"$regex": r"(a+)+\1$"}})
    definitions = _definitions({})
    experiment = replace(definitions.experiments["e"], prerequisites=(needed,))
    held = replace(definitions, experiments={"e": experiment})
    assert held.compiled.refused[0].startswith("experiment 'e': value.$regex: may take")
