from __future__ import annotations

from typing import TYPE_CHECKING, Any

import network
import pytest
from velib_cli import models
from velib_core.errors import ModelError
from velib_core.lake.bucket import Lake
from velib_core.lake.keys import ModelFile
from velib_core.lake.layout import Layout
from velib_core.model import registry
from velib_core.timeline.bins import HorizonMinutes

if TYPE_CHECKING:
    from velib_core.model.registry import ModelVersion
    from velib_core.settings.network import Settings

H = HorizonMinutes(15)
DESCRIPTION = {"features_hash8": "05d0fddd", "horizon_bins": 3}


def files(content: bytes) -> dict[str, bytes]:
    return {"model.ubj": content, "pack.json": b"{}"}


def register(
    lake: Lake, settings: Settings, content: bytes, stamp: Any = "20251128-235500Z", **changes: Any
) -> ModelVersion:
    made = files(content)
    folder = registry.folder_name(stamp, made)
    return registry.register(lake, Layout(settings), H, folder, made, DESCRIPTION | changes, "mark")


def test_a_registered_model_is_live_and_read_back_as_it_was(lake: Lake, settings: Settings) -> None:
    model = register(lake, settings, b"one")
    assert model.version == "2.0.0"
    assert registry.live(lake, Layout(settings), H) == model
    assert registry.load(lake, Layout(settings), model) == files(b"one")


def test_versions_count_on_by_patch_and_by_minor_where_the_features_changed(
    lake: Lake, settings: Settings
) -> None:
    register(lake, settings, b"one")
    register(lake, settings, b"two")
    changed = register(lake, settings, b"three", features_hash8="ffffffff")
    assert [m.version for m in registry.versions(lake, Layout(settings), H)] == [
        "2.0.0",
        "2.0.1",
        "2.1.0",
    ]
    assert registry.live(lake, Layout(settings), H) == changed


def test_registering_the_same_model_again_changes_nothing(lake: Lake, settings: Settings) -> None:
    first = register(lake, settings, b"one")
    before = network.contents(lake)
    assert register(lake, settings, b"one") == first
    assert network.contents(lake) == before


def test_a_training_that_is_killed_at_any_point_leaves_the_live_model_complete(
    lake: Lake, settings: Settings
) -> None:
    model = register(lake, settings, b"one")

    class KilledError(Exception):
        """The process dies."""

    for survive in range(4):
        writes = [0]

        class Dying(Lake):
            def write(self, name: Any, artefact: Any, **rest: Any) -> int:
                if writes[0] == survive:  # noqa: B023
                    raise KilledError
                writes[0] += 1  # noqa: B023
                return super().write(name, artefact, **rest)

        with pytest.raises(KilledError):
            register(Dying(lake.bucket), settings, b"two" * (survive + 1))
        assert registry.live(lake, Layout(settings), H) == model
        assert registry.load(lake, Layout(settings), model) == files(b"one")
    assert register(lake, settings, b"two").version > "2.0.0"


def test_going_back_points_to_the_earlier_model_and_versions_still_count_on(
    lake: Lake, settings: Settings
) -> None:
    first = register(lake, settings, b"one")
    register(lake, settings, b"two")
    registry.promote(lake, Layout(settings), first)
    assert registry.live(lake, Layout(settings), H) == first
    assert register(lake, settings, b"three").version == "2.0.2"


@pytest.mark.parametrize("damage", [b"", b"x", b"one and more"])
def test_a_damaged_file_is_refused_by_name_and_the_last_good_model_is_next(
    lake: Lake, settings: Settings, damage: bytes
) -> None:
    good = register(lake, settings, b"good")
    bad = register(lake, settings, b"one")
    network.put(lake, Layout(settings).name(ModelFile(H, bad.folder, "model.ubj")), damage)
    with pytest.raises(ModelError, match=r"model\.ubj"):
        registry.load(lake, Layout(settings), bad)
    assert [m.version for m in registry.usable(lake, Layout(settings), H)] == ["2.0.1", "2.0.0"]
    assert registry.load(lake, Layout(settings), good) == files(b"good")


@pytest.mark.parametrize(
    "pointer",
    [
        b"",
        b"[]",
        b'{"folder": "../../x", "version": "1.0.0"}',
        b'{"version": "1"}',
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"folder": "20251128-235500Z-00000000", "version": "2.0.0", "end_date": 5}',
    ],
)
def test_a_pointer_that_is_none_is_refused_and_the_newest_model_is_used(
    lake: Lake, settings: Settings, pointer: bytes
) -> None:
    model = register(lake, settings, b"one")
    network.put(lake, Layout(settings).name(ModelFile(H, None, "latest.json")), pointer)
    with pytest.raises(ModelError):
        registry.live(lake, Layout(settings), H)
    assert list(registry.usable(lake, Layout(settings), H)) == [model]


def test_without_any_model_there_is_none(lake: Lake, settings: Settings) -> None:
    assert registry.live(lake, Layout(settings), H) is None
    assert list(registry.usable(lake, Layout(settings), H)) == []


def test_what_was_tried_is_known_whether_registered_or_refused(
    lake: Lake, settings: Settings
) -> None:
    assert not registry.was_tried(lake, Layout(settings), H, "mark")
    registry.refuse(
        lake, Layout(settings), H, "20251128-235500Z-00000000", {"why": "worse"}, "other"
    )
    assert registry.was_tried(lake, Layout(settings), H, "other")
    assert registry.versions(lake, Layout(settings), H) == []
    register(lake, settings, b"one")
    assert registry.was_tried(lake, Layout(settings), H, "mark")


def test_a_person_lists_the_models_and_goes_back_to_the_one_before(
    lake: Lake, settings: Settings
) -> None:
    described = {"metrics": {"mae": 0.5}, "verdict": {"candidate": {"mae_lift": 0.1}}}
    register(lake, settings, b"one", **described)
    register(lake, settings, b"two", **described)
    assert models.roll_back(lake, settings, H, None) == ("2.0.1", "2.0.0")
    listed = models.list_models(lake, settings)
    assert [(m.version, m.live, m.mae_lift) for m in listed] == [
        ("2.0.0", True, 0.1),
        ("2.0.1", False, 0.1),
    ]
    assert models.roll_back(lake, settings, H, "2.0.1") == ("2.0.0", "2.0.1")


def test_there_is_no_way_back_before_the_first_model_nor_to_an_unknown_one(
    lake: Lake, settings: Settings
) -> None:
    with pytest.raises(models.UnknownModelError, match="live model"):
        models.roll_back(lake, settings, H, None)
    register(lake, settings, b"one")
    with pytest.raises(models.UnknownModelError, match="none is before"):
        models.roll_back(lake, settings, H, None)
    with pytest.raises(models.UnknownModelError, match=r"9\.9\.9"):
        models.roll_back(lake, settings, H, "9.9.9")


def test_a_damaged_pointer_is_fixed_by_naming_a_version(lake: Lake, settings: Settings) -> None:
    described = {"metrics": {"mae": 0.5}}
    good = register(lake, settings, b"one", **described)
    network.put(lake, Layout(settings).name(ModelFile(H, None, registry.POINTER)), b"{}")
    assert [m.live for m in models.list_models(lake, settings)] == [False]
    with pytest.raises(models.UnknownModelError, match="version to go to"):
        models.roll_back(lake, settings, H, None)
    assert models.roll_back(lake, settings, H, "2.0.0") == ("none", "2.0.0")
    assert registry.live(lake, Layout(settings), H) == good


def test_the_live_model_is_found_without_looking_at_the_earlier_ones(
    lake: Lake, settings: Settings
) -> None:
    for content in (b"one", b"two", b"three"):
        last = register(lake, settings, content)
    read = []

    class Watched(Lake):
        def read(self, entry: Any) -> bytes:
            read.append(entry.name)
            return super().read(entry)

    assert next(registry.usable(Watched(lake.bucket), Layout(settings), H)) == last
    assert read == [Layout(settings).name(ModelFile(H, None, registry.POINTER))]
