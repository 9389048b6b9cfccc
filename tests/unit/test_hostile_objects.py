"""Damaged models, profiles and strays: each costs itself only, and is named."""

from __future__ import annotations

import io
import itertools
import zipfile
from typing import TYPE_CHECKING, Any

import hostile
import network
import numpy as np
import pytest
from present import present
from velib_core.errors import ModelError
from velib_core.events.job import JobResult
from velib_core.events.messages import ReplayRequested
from velib_core.features.profiles import ProfileError, from_bytes
from velib_core.jobs import build_datasets, reconcile
from velib_core.lake.keys import (
    CalibrationOf,
    Daily,
    Events,
    ForecastLog,
    ModelFile,
    Perf,
    Profile,
)
from velib_core.lake.layout import Layout
from velib_core.model import registry
from velib_core.model.pack import from_blobs
from velib_core.model.readers import calibration_before, load_profiles
from velib_core.tables import history, npz
from velib_core.timeline.bins import HorizonMinutes, day_after, parse_day

if TYPE_CHECKING:
    from velib_core.lake.bucket import Lake
    from velib_core.model.registry import ModelVersion
    from velib_core.settings.network import Settings

H = HorizonMinutes(15)
DAY = network.FIRST_DAY
FAR = parse_day("2099-01-01")
STAMPS = itertools.count(20250101)


def register(lake: Lake, settings: Settings, **changes: Any) -> ModelVersion:
    """Register a model whose files hold nothing but their number."""
    stamp = next(STAMPS)
    files = {"model.ubj": str(stamp).encode()}
    folder = registry.folder_name(f"{stamp}-235500Z", files)
    about = {"features_hash8": "0", "horizon_bins": 3, "end_date": "2025-01-01"} | changes
    return registry.register(lake, Layout(settings), H, folder, files, about, "fingerprint")


def bomb(size: int) -> bytes:
    """Return an archive of one array of zeros that unpacks to so many bytes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        data = io.BytesIO()
        np.lib.format.write_array(data, np.zeros(size, np.int8))
        archive.writestr("ids.npy", data.getvalue())
    return sink.getvalue()


@pytest.mark.parametrize("junk", hostile.JSON_JUNK)
def test_a_damaged_record_is_left_out_and_the_other_models_are_used(
    lake: Lake, settings: Settings, junk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(settings)
    good, bad = register(lake, settings), register(lake, settings)
    record = layout.name(ModelFile(H, bad.folder, "version.json"))
    network.put(lake, record, hostile.JSON_JUNK[junk])
    network.put(lake, layout.name(ModelFile(H, None, "latest.json")), hostile.JSON_JUNK[junk])
    assert registry.versions(lake, layout, H) == [good]
    assert list(registry.usable(lake, layout, H)) == [good]
    assert "a model is left out" in capsys.readouterr().err
    assert register(lake, settings).version == "2.0.1"


def test_of_two_models_of_one_version_either_serves_where_the_other_is_damaged(
    lake: Lake, settings: Settings
) -> None:
    layout = Layout(settings)
    one, two = register(lake, settings), register(lake, settings)
    same = dict(two.record) | {"version": one.version}
    registry._put_json(lake, layout.name(ModelFile(H, two.folder, "version.json")), same, "f")
    for live, other in ((one, two), (two, one)):
        pointed = registry.ModelVersion(
            H, live.folder, one.version, dict(live.record) | {"version": one.version}
        )
        registry.promote(lake, layout, pointed)
        folders = [model.folder for model in registry.usable(lake, layout, H)]
        assert folders == [live.folder, other.folder]


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06" + bytes(18), bomb(1 << 10), bomb(500 << 20)])
def test_arrays_that_are_none_or_unpack_to_gigabytes_are_refused(data: Any) -> None:
    with pytest.raises(ProfileError):
        from_bytes(data)
    with pytest.raises(ModelError):
        from_blobs({"model.ubj": b"", "statics.npz": data, "pack.json": b"{}"})
    if len(data) > 10_000:
        with pytest.raises(npz.ArraysError, match="at most"):
            npz.read(data, 100 << 20)


def test_an_unreadable_profile_gives_way_to_the_one_before_and_then_to_none(
    lake: Lake, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(settings)
    for n in range(3):
        network.put(lake, layout.name(Profile(day_after(DAY, n))), b"junk")
    newest = lake.stat(layout.name(Profile(day_after(DAY, 2))))
    profiles = load_profiles(lake, settings, newest)
    assert not len(profiles.stations)
    assert capsys.readouterr().err.count("is left out") == 3


@pytest.mark.parametrize("stray", [".bak", "x", "/y.json"])
def test_a_stray_next_to_a_calibration_is_ignored_and_named(
    lake: Lake, settings: Settings, stray: str, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(settings)
    model = register(lake, settings)
    name = layout.name(CalibrationOf(H, model.folder, DAY))
    network.put(lake, name, b"{}")
    network.put(lake, name + stray, b"junk")
    assert present(calibration_before(lake, layout, model, day_after(DAY, 2))).name == name
    assert f"{name}{stray}" in capsys.readouterr().err


@pytest.mark.parametrize("key", [Daily, Events, Perf, Profile, ForecastLog])
def test_an_object_of_a_day_that_has_not_begun_is_never_the_newest(
    lake: Lake, settings: Settings, key: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(settings)
    names = [layout.name(key(day)) for day in (DAY, FAR)]
    assert layout.by_day(key, names) == {DAY: names[0]}
    assert names[1] in capsys.readouterr().err
    network.put(lake, layout.name(Daily(FAR)), b"junk")
    assert FAR not in history.dailies(lake, layout)


@pytest.mark.parametrize("stray", ["notes.txt", "hour=00/x.parquet", "hour=00/"])
def test_strays_in_the_forecast_log_are_ignored_by_who_reads_and_who_looks(
    lake: Lake, settings: Settings, stray: str, capsys: pytest.CaptureFixture[str]
) -> None:
    layout, net = Layout(settings), network.of(lake, settings)
    network.put(lake, f"{layout.forecast_log_day(DAY)}{stray}", b"junk")
    result = JobResult("build_datasets")
    build_datasets._update_forecast_log(lake, layout, DAY, result)
    assert result.outputs == {layout.name(ForecastLog(DAY)): "absent"}
    assert "is no partition" in capsys.readouterr().err
    assert reconcile.plan(net, ReplayRequested()) == []
