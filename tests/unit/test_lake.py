from __future__ import annotations

import concurrent.futures
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from google.api_core.exceptions import PreconditionFailed
from present import present
from velib_core.lake.artefact import (
    JSON,
    Artefact,
    RaceLostError,
    StoreError,
    crc32c,
    json_bytes,
    json_value,
)
from velib_core.lake.fingerprints import fingerprint_of
from velib_core.lake.readable import Entry, ObjectMissingError, UnreadableObjectError

if TYPE_CHECKING:
    from velib_core.lake.bucket import Lake


def artefact(data: bytes, fingerprint: str = "m") -> Artefact:
    return Artefact(data, JSON, fingerprint)


def test_an_object_carries_its_checksum_and_fingerprint(lake: Lake) -> None:
    generation = lake.write("a/b.json", artefact(b"[1]", "made-from"), expected_generation=0)
    entry, data = lake.fetch("a/b.json")
    assert data == b"[1]"
    assert (entry.generation, entry.fingerprint, entry.size) == (generation, "made-from", 3)
    assert entry.crc32c == crc32c(b"[1]")
    assert list(lake.entries("a/")) == [entry]
    assert lake.folders("") == ["a/"]


def test_a_write_against_another_generation_is_refused(lake: Lake) -> None:
    first = lake.write("x", artefact(b"1"), expected_generation=0)
    lake.write("x", artefact(b"2"), expected_generation=first)
    for expected in (0, first):
        with pytest.raises(PreconditionFailed):
            lake.write("x", artefact(b"3"), expected_generation=expected)
    assert lake.fetch("x")[1] == b"2"


def test_of_sixteen_who_race_for_a_new_object_one_wins(lake: Lake) -> None:
    def race(n: int) -> bool:
        try:
            lake.write("race", artefact(b"%d" % n), expected_generation=0)
        except PreconditionFailed:
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(race, range(16))) == 1


def test_publishing_what_is_there_already_writes_nothing(lake: Lake) -> None:
    assert lake.update("x", lambda _: artefact(b"1")) == "written"
    before = present(lake.stat("x"))
    assert lake.update("x", lambda _: artefact(b"1")) == "fresh"
    assert lake.update("x", lambda _: None) == "fresh"
    assert lake.stat("x") == before
    assert lake.update("x", lambda _: artefact(b"1"), force=True) == "written"
    assert present(lake.stat("x")).generation != before.generation
    assert lake.update("nothing", lambda _: None) == "absent"


def test_equal_bytes_made_from_other_inputs_are_marked_anew(lake: Lake) -> None:
    lake.update("x", lambda _: artefact(b"1", "old"))
    assert lake.update("x", lambda _: artefact(b"1", "new")) == "written"
    assert present(lake.stat("x")).fingerprint == "new"


def test_a_lost_race_is_run_again_with_inputs_read_afresh(lake: Lake) -> None:
    inputs = ["early"]

    def make(current: Any) -> Artefact:
        made = artefact(",".join(inputs).encode())
        if len(inputs) == 1:  # another writer comes first, having seen more
            inputs.append("late")
            lake.write("x", artefact(b"other"), expected_generation=0)
        return made

    assert lake.update("x", make) == "written"
    assert lake.fetch("x")[1] == b"early,late"


def test_losing_every_race_gives_the_event_back(lake: Lake) -> None:
    def make(current: Any) -> Artefact:
        expected = current.generation if current else 0
        lake.write("x", artefact(b"other"), expected_generation=expected)
        return artefact(b"mine")

    with pytest.raises(RaceLostError):
        lake.update("x", make)


def test_an_input_that_changes_while_it_is_read_starts_the_work_again(lake: Lake) -> None:
    lake.write("in", artefact(b"old"), expected_generation=0)
    seen: list[Any] = []

    def make(current: Any) -> Artefact:
        entry = present(lake.stat("in"))
        if not seen:
            seen.append("old")
            lake.write("in", artefact(b"new"), expected_generation=entry.generation)
        return artefact(lake.read(entry))

    lake.update("out", make)
    assert lake.fetch("out")[1] == b"new"


def test_deleting_spares_a_newer_object_and_an_absent_one(lake: Lake) -> None:
    lake.write("x", artefact(b"1"), expected_generation=0)
    entry = present(lake.stat("x"))
    lake.delete(entry)
    lake.delete(entry)
    assert lake.stat("x") is None


def test_missing_objects_are_named(lake: Lake) -> None:
    with pytest.raises(ObjectMissingError, match="not/there"):
        lake.fetch("not/there")


def test_a_fingerprint_depends_on_recipe_names_and_contents_but_not_on_order() -> None:
    one = Entry("a", 1, 1, "c1", None)
    two = Entry("b", 2, 1, "c2", None)
    again = Entry("b", 9, 1, "c2", None)
    changed = Entry("b", 2, 1, "c3", None)
    assert fingerprint_of("r", [one, two]) == fingerprint_of("r", [again, one])
    others = [
        fingerprint_of("r", [one, changed]),
        fingerprint_of("r2", [one, two]),
        fingerprint_of("r", [one]),
    ]
    assert fingerprint_of("r", [one, two]) not in others


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", '{"a": 1e999}'])
def test_a_number_that_json_has_not_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="no number of JSON"):
        json_value(text.encode())


def test_json_never_holds_what_json_has_not() -> None:
    assert json_bytes({"é": None}) == '{"é":null}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        json_bytes([float("nan")])


def test_an_object_without_a_checksum_is_not_downloaded(lake: Lake) -> None:
    """Cloud Storage lists those that are encrypted with a key of the writer's own so."""
    lake.write("x", artefact(b"1"), expected_generation=0)
    listed = dataclasses.replace(present(lake.stat("x")), crc32c="")
    with pytest.raises(UnreadableObjectError, match="x is encrypted"):
        lake.read(listed)


def test_bytes_that_are_not_what_was_listed_are_not_returned(lake: Lake) -> None:
    lake.write("x", artefact(b"1"), expected_generation=0)
    listed = dataclasses.replace(present(lake.stat("x")), crc32c=crc32c(b"2"))
    with pytest.raises(StoreError, match="not its content"):
        lake.read(listed)
