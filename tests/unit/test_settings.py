from __future__ import annotations

import pytest
from velib_core.settings.env import SettingsError
from velib_core.settings.network import Settings, all_variables

ROOT = {"GCS_BUCKET_ROOT": "gs://bucket/velib"}


def test_prefixes_follow_the_root_unless_they_are_named() -> None:
    settings = Settings.from_env(ROOT | {"GCS_DAILY_PREFIX": "gs://bucket/elsewhere/"})
    assert settings.raw_prefix == "gs://bucket/velib/bronze"
    assert settings.daily_prefix == "gs://bucket/elsewhere"
    assert settings.bucket == "bucket"


@pytest.mark.parametrize("given", ["gs://bucket/velib", "gs://bucket/velib/monitoring"])
def test_the_monitoring_folder_is_appended_when_missing(given: str) -> None:
    settings = Settings.from_env(ROOT | {"GCS_MONITORING_PREFIX": given})
    assert settings.monitoring_prefix == "gs://bucket/velib/monitoring"


def test_the_first_name_that_is_set_wins() -> None:
    env = {"FORECAST_HORIZONS": "60,15,15", "MON_HORIZONS": "30"}
    assert Settings.from_env(ROOT | env).horizons == (15, 60)


def test_fewer_horizons_may_be_monitored_than_forecast() -> None:
    env = {"FORECAST_HORIZONS": "15,60", "PERF_HORIZONS": "15", "EXPLAIN_HORIZONS": "60"}
    settings = Settings.from_env(ROOT | env)
    assert settings.horizons == (15, 60)
    assert settings.monitoring.performance_horizons == (15,)
    assert settings.monitoring.explain_horizons == (60,)
    settings = Settings.from_env(ROOT | env | {"MON_HORIZONS": "30"})
    assert settings.horizons == (15, 60)
    assert settings.monitoring.performance_horizons == (30,)
    assert settings.monitoring.explain_horizons == (30,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GCS_BUCKET_ROOT", ""),
        ("GCS_BUCKET_ROOT", "s3://bucket"),
        ("GCS_BUCKET_ROOT", "gs://bucket/../other"),
        ("GCS_BUCKET_ROOT", "gs://Bucket Name"),
        ("VELIB_NETWORK", "Vélib"),
        ("MON_TZ", "Paris"),
        ("MON_TZ", "../etc/passwd"),
        ("MON_HORIZONS", "15,sixty"),
        ("MON_HORIZONS", "7"),
        ("METEO_DISABLE", "maybe"),
        ("OPENMETEO_LAT", "north"),
        ("OPENMETEO_LAT", "91"),
        ("OPENMETEO_LAT", "nan"),
        ("PENURY_THRESH", "2.5"),
        ("GBFS_URL", "file:///etc/passwd"),
        ("LOOKBACK_DAYS", "0"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(ROOT | {name: value})
    assert caught.value.field == name
    assert repr(value) in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "where"),
    [
        ("gs://other/velib/daily", "another bucket"),
        ("gs://bucket/velib/bronze", "another prefix"),
        ("gs://bucket/velib/bronze/daily", "inside another prefix"),
    ],
)
def test_prefixes_share_a_bucket_and_lie_apart(prefix: str, where: str) -> None:
    with pytest.raises(SettingsError, match="prefix"):
        Settings.from_env(ROOT | {"GCS_DAILY_PREFIX": prefix})


def test_topics_carry_the_network_and_need_a_project() -> None:
    settings = Settings.from_env(ROOT | {"VELIB_NETWORK": "lyon", "GOOGLE_CLOUD_PROJECT": "p"})
    assert settings.topic("tick") == "projects/p/topics/lyon-tick"
    with pytest.raises(SettingsError, match="GOOGLE_CLOUD_PROJECT"):
        Settings.from_env(ROOT).topic("tick")


def test_every_setting_says_what_it_is_for() -> None:
    for field in all_variables():
        assert field.metadata["about"]
        assert all(name.isupper() for name in field.metadata["names"])
