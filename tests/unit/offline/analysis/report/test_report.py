"""Reports as JSON, on a terminal and as a page, in every state that one may be in."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from offline.analysis.model import Decision, Finding, Reason, Report
from offline.analysis.report.html import to_html
from offline.analysis.report.json import from_json, to_json
from offline.analysis.report.summary import summary
from offline.analysis.report.table import print_report
from services.common.errors import InvalidArgument
from tests.unit.offline.analysis.report.reports import STATES, alarmed, base, crowded, unexposed

EVERY_STATE = pytest.mark.parametrize("state", STATES)


def _printed(report: Report) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_report(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class _Page(HTMLParser):
    """What a page holds: its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@EVERY_STATE
def test_json_is_read_back_as_it_was(state: str) -> None:
    report = STATES[state]()
    assert from_json(to_json(report)) == report


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "report"),
        ("[]", "schema_version"),
        ('{"schema_version": 2}', "schema_version"),
        ('{"schema_version": 1}', "experiment"),
    ],
)
def test_what_is_no_report_is_refused(text: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        from_json(text)
    assert refused.value.violations[0].field == field


def test_a_report_holds_no_conclusion_beside_an_alarm() -> None:
    ship = Decision("ship", "engagement", (Reason("primary_better", "It did."),))
    with pytest.raises(ValueError, match="nothing is concluded"):
        replace(alarmed(), decision=ship)
    with pytest.raises(ValueError, match="nothing is concluded"):
        replace(alarmed(), metrics=base().metrics)
    with pytest.raises(ValueError, match="is not one of"):
        replace(base(), decision=replace(ship, variant="control"))
    with pytest.raises(ValueError, match="says why"):
        replace(base(), decision=replace(ship, reasons=()))


@EVERY_STATE
def test_the_table_tells_the_decision_and_why(state: str) -> None:
    report = STATES[state]()
    printed = re.sub(r"\s+", " ", _printed(report))
    assert summary(report).headline in printed
    assert report.decision.reasons[0].text[:40] in printed


def test_who_is_to_go_on_is_told_that_alone() -> None:
    decided = (Reason("undecided", "Not yet."), Reason("no_difference_shown", "Nothing."))
    report = replace(base(), decision=Decision("keep_running", None, decided))
    assert len(summary(report).next_step) == 1


def test_nothing_of_effects_is_told_beside_an_alarm() -> None:
    report = replace(alarmed(), exposures=())
    for shown in (_printed(report), _Page(to_html(report)).text):
        assert "No conclusion" in shown
        assert "Ship" not in shown
        assert "confidence" not in shown
        assert not re.search(r"[+−]\d", shown)


def test_an_alarm_that_holds_no_conclusion_back_is_told_beside_it() -> None:
    crossed = "26 units (2.60%) were seen in two arms and are left out."
    alarm = Finding("exposures", "alarm", crossed, "crossover")
    report = replace(base(), health=(alarm, *base().health))
    said = summary(report)
    assert report.decision.outcome == "ship"
    assert said.sure[-1] == f"An alarm casts doubt on every figure: {crossed}"
    assert said.next_step[0] == "Find out what set off the alarm before acting on any figure."
    assert summary(base()).sure == said.sure[:-1]
    # Where an alarm is why nothing is concluded, that is told already.
    withheld = alarmed()
    assert summary(replace(withheld, health=(alarm, *withheld.health))).sure == (
        summary(withheld).sure
    )


@pytest.mark.parametrize("state", ["winner", "unexposed"])
def test_a_page_needs_nothing_from_elsewhere(state: str) -> None:
    page = to_html(STATES[state]())
    found = _Page(page)
    for tag, attributes in found.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "form", "base"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "data", "action"):
            if name in attributes:
                assert (attributes[name] or "").startswith("data:image/svg+xml;base64,")
    assert "url(" not in page
    assert "@import" not in page
    assert "http://" not in page
    assert "https://" not in page
    for encoded in re.findall(r"base64,([A-Za-z0-9+/=]+)", page):
        svg = base64.b64decode(encoded).decode()
        assert svg.startswith("<svg")
        assert not re.search(r'(href="(?!#)|<script|<image|@import|url\((?!#))', svg)
    assert ("img" in {tag for tag, _ in found.tags}) == (state != "unexposed")


def test_a_page_shows_as_text_what_people_named() -> None:
    report = replace(crowded(), exposures=())
    report = replace(
        report,
        metrics=tuple(
            replace(m, effects=tuple(replace(e, sequence=()) for e in m.effects))
            for m in report.metrics
        ),
    )
    found = _Page(to_html(report))
    assert all(tag not in {"script", "b", "i"} for tag, _ in found.tags)
    for text in (
        report.experiment.description,
        report.decision.reasons[0].text,
        *(arm.variant for arm in report.arms),
        "<b>bold</b>",
    ):
        assert text in found.text


def test_a_terminal_shows_as_text_what_people_named() -> None:
    report = replace(
        unexposed(), decision=Decision("no_conclusion", None, (Reason("x", "[red]not[/red] [/]"),))
    )
    assert "[red]not[/red] [/]" in _printed(report)


def test_a_peek_tells_no_chances_and_what_was_not_measured_has_no_table() -> None:
    shown = {
        state: _Page(to_html(replace(STATES[state](), exposures=()))).text
        for state in ("peek", "immature")
    }
    assert "no point counts yet" in shown["peek"]
    assert "In chances" not in shown["peek"]
    assert "What changed" in shown["peek"]
    assert "What changed" not in shown["immature"]
