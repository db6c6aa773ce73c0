"""Pseudonyms are found in bytes of any form, and brought under another key without a trace."""

from __future__ import annotations

import pickle
import string
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common import pseudonym_scan
from services.common.convert_event import record_digest
from services.common.errors import FailedPrecondition
from services.common.pseudonym import KEY_BYTES, Pseudonymiser
from services.common.pseudonym_scan import PseudonymScan, without_pseudonyms

KEYS = {version: bytes([version]) * KEY_BYTES for version in (1, 2, 12)}
OLD, NEW = Pseudonymiser(KEYS, 1), Pseudonymiser(KEYS, 2)
# What may stand around a pseudonym, its own letters and looks among it.
AROUND = st.text(string.ascii_letters + string.digits + "-_p1.2\x00\x12é", max_size=30)
IDS = st.text(min_size=1, max_size=128).filter(lambda raw: len(raw.encode()) <= 128)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(AROUND, IDS, st.sampled_from([OLD, NEW])), max_size=4), AROUND)
def test_translating_changes_pseudonyms_and_nothing_else(
    parts: list[tuple[str, str, Pseudonymiser]], end: str
) -> None:
    # A letter of the pseudonyms' own may follow by chance, but not one that makes it another.
    data = "".join(f"{text}\n{names.encrypt(raw)}\x12" for text, raw, names in parts) + end
    wanted = "".join(f"{text}\n{NEW.encrypt(raw)}\x12" for text, raw, _ in parts) + end

    scan = PseudonymScan(NEW)
    after = scan.translated(data.encode())

    assert after == wanted.encode()
    assert scan.translated(after) == after
    assert PseudonymScan(OLD).translated(after) == PseudonymScan(OLD).translated(data.encode())
    assert scan.versions(after) == Counter({2: len(parts)} if parts else {})
    assert without_pseudonyms(after) == without_pseudonyms(data.encode())
    assert record_digest(after) == record_digest(data.encode())


@pytest.mark.parametrize("following", ["", "0", "2x", "A" * 40, ".p1."])
@pytest.mark.parametrize("raw", ["u", "user-17", "x" * 128])
def test_letters_that_follow_are_told_from_it(raw: str, following: str) -> None:
    data = f"*{OLD.encrypt(raw)}{following}".encode()
    assert PseudonymScan(NEW).translated(data) == f"*{NEW.encrypt(raw)}{following}".encode()


def test_what_only_looks_like_one_stays() -> None:
    other = Pseudonymiser({1: b"?" * KEY_BYTES}, 1).encrypt("user-17")
    data = f"{other} p1.title-of-a-course-in-many-words p7.{'A' * 40}".encode()
    scan = PseudonymScan(NEW)
    assert scan.translated(data) == data
    # Of a key that is not there nobody can tell.
    assert scan.versions(data) == {7: 1}
    assert NEW.translate(other) == other
    assert NEW.translate("u1") == "u1"


def test_a_length_that_can_not_stay_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="1 and 12 differ in their number of digits"):
        PseudonymScan(NEW.under(12)).translated(OLD.encrypt("ann").encode())


def test_a_name_is_the_same_under_its_key_again() -> None:
    assert NEW.translate(OLD.encrypt("ann")) == NEW.encrypt("ann")
    assert OLD.translate(NEW.encrypt("ann")) == OLD.encrypt("ann")
    assert NEW.under(1).encrypt("ann") == OLD.encrypt("ann")
    assert (NEW.version, NEW.versions, NEW.translate("")) == (2, [1, 2, 12], "")
    with pytest.raises(FailedPrecondition, match="no key of version 3"):
        NEW.under(3)
    with pytest.raises(FailedPrecondition, match="no key of version 1"):
        Pseudonymiser({2: KEYS[2]}, 2).translate(OLD.encrypt("ann"))


def test_another_process_gets_the_same_keys() -> None:
    copy = pickle.loads(pickle.dumps(OLD))  # noqa: S301 - our own
    assert copy.translate(NEW.encrypt("ann")) == OLD.encrypt("ann")


def test_a_file_is_counted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudonym_scan, "_CHUNK_BYTES", 100)
    path = tmp_path / "file"
    names = [(OLD if n % 3 else NEW).encrypt(f"user-{n}" * (n % 9 + 1)) for n in range(60)]
    path.write_bytes(b"\0".join(name.encode() for name in names))
    assert PseudonymScan(NEW).versions_in(path) == {1: 40, 2: 20}
    assert PseudonymScan(NEW).versions_in(tmp_path / "none") == {}
