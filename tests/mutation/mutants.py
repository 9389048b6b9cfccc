"""Named mutants: small changes of meaning, each of which a test of the default run must notice.

A mutant replaces one text, which occurs once in its file, by another. Keep the text as short as is
unique, so that it outlives the lines around it.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mutant:
    """``file`` below ``shared/velib_core``; ``tests`` are the files of ``tests/unit`` that kill it.

    They stand without ``test_`` and ``.py``, the quickest to notice first.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


def of(file: str, tests: str, *changes: tuple[str, str, str]) -> list[Mutant]:
    """The mutants of one file: name, text, what it becomes."""
    return [Mutant(*change[:1], file, *change[1:], tuple(tests.split())) for change in changes]


MUTANTS = [
    *of(
        "features/time_features.py",
        "oracle_features",
        ("occupancy inverted", "bikes[rows] / capacity,", "capacity / bikes[rows],"),
        (
            "occupancy of an empty station",
            "capacity > 0, bikes[rows]",
            "bikes[rows] > 0, bikes[rows]",
        ),
        (
            "lags look ahead",
            "bikes[rows - lag]\n",
            "bikes[np.minimum(rows + lag, len(bikes) - 1)]\n",
        ),
        (
            "a lag of 35 bins for 36",
            "LAGS = (1, 2, 3, 6, 12, 24, 36, 48)",
            "LAGS = (1, 2, 3, 6, 12, 24, 35, 48)",
        ),
        ("windows need a third", "max(1, width // 2)", "max(1, width // 3)"),
        (
            "windows hold the row itself",
            "window_sum(x, rows, width) for x in sums",
            "window_sum(x, rows + 1, width) for x in sums",
        ),
        ("population deviation", "0) / (n - 1)", "0) / n"),
        (
            "weather of now for lag1",
            "history.weather[name][rows - 1, None]",
            "history.weather[name][rows, None]",
        ),
        ("a gap of 7 bins is a step", "LONGEST_GAP = 6", "LONGEST_GAP = 7"),
        ("negative falls", "(rounded, -rounded)", "(rounded, rounded)"),
        (
            "stated docks ignored",
            "np.isnan(docks[rows]), free, docks[rows])",
            "np.isnan(docks[rows]), free, free)",
        ),
        ("unavailable docks negated", "free - stated", "stated - free"),
        (
            "ages are not limited",
            'np.clip(history["age_min"][rows], -60, 24 * 60)',
            'history["age_min"][rows]',
        ),
        ("seen now for seen before", "before[1:] = last[:-1]", "before[:] = last"),
        ("a step of 0 is a change", "(step != 0) & ~np.isnan(step)", "~np.isnan(step)"),
        ("quiet counts to 50", "np.minimum(quiet, 49)", "np.minimum(quiet, 50)"),
        ("changes have no slack", "if lag == 1 else 3", "if lag == 1 else 0"),
        (
            "flows leave out the row itself",
            "window_sum(sums, rows + 1, width).astype",
            "window_sum(sums, rows, width).astype",
        ),
        ("slack one longer", "rows[row] - source <= slack", "rows[row] - source <= slack + 1"),
    ),
    *of(
        "features/spatial_features.py",
        "oracle_features",
        ("four neighbours for five", "KNN5 = 5", "KNN5 = 4"),
        ("fourteen neighbours for fifteen", "KNN15 = 15", "KNN15 = 14"),
        ("neighbours count as seen", "seen[neighbours[:, k]]", "1"),
        ("oneself is a neighbour", "[:, 1:]\n", "[:, :-1]\n"),
        (
            "neighbours by degrees",
            "np.column_stack([lon * np.cos(np.radians(lat.mean())), lat])",
            "np.column_stack([lon, lat])",
        ),
        (
            "near is around",
            'yield "near_occ", _mean_of(occupancy, knn5)',
            'yield "near_occ", _mean_of(occupancy, knn15)',
        ),
        (
            "unseen stations arrive 0",
            "np.where(there, window_sum(sums, rows + 1, width), np.nan)",
            "window_sum(sums, rows + 1, width)",
        ),
        (
            "left for arrived",
            '("arrived", movements.arrived), ("left", movements.left)',
            '("arrived", movements.left), ("left", movements.arrived)',
        ),
        ("a centre 60 km away", "*PARIS)[0] < 50", "*PARIS)[0] < 60"),
        (
            "clusters of unscaled points",
            "points.mean(0)) / np.where(spread",
            "points.mean(0)) * np.where(spread",
        ),
        ("clusters in any order", "rank[labels], means", "labels, means"),
        (
            "grid of latitude on both axes",
            "np.floor(lon * 75000 / 300)",
            "np.floor(lat * 75000 / 300)",
        ),
    ),
    *of(
        "features/cal_features.py",
        "oracle_features",
        ("Friday is a weekend", "local.dow >= 5", "local.dow >= 4"),
        ("the week starts on Sunday", "(day + 3) % 7", "(day + 4) % 7"),
        ("months from 0", "months % 12 + 1", "months % 12"),
        ("sine and cosine swapped", '"hod_sin": np.sin(angle_day)', '"hod_sin": np.cos(angle_day)'),
        ("UTC for local time", '"paris_hour": local.minute // 60', '"paris_hour": minutes // 60'),
        (
            "the first day of school is off",
            "day < _ZONE_C[started - 1][1]",
            "day <= _ZONE_C[started - 1][1]",
        ),
        ("holidays are no days off", "or _is_public_holiday(ordinal + ahead, country)", "or False"),
    ),
    *of(
        "timeline/local_time.py",
        "oracle_features",
        (
            "holidays are working days",
            "np.where(holiday == 1, 2, np.maximum(dow - 4, 0))",
            "np.maximum(dow - 4, 0)",
        ),
        ("Saturday is a working day", "np.maximum(dow - 4, 0)", "np.maximum(dow - 5, 0) * 2"),
        (
            "slots read at their start",
            "(local.minute + BIN_MINUTES / 2) / width - 0.5",
            "(local.minute + BIN_MINUTES / 2) / width",
        ),
        (
            "bins read at their start",
            "(local.minute + BIN_MINUTES / 2) / width",
            "local.minute / width",
        ),
        ("one offset a day", "bins // (BINS_PER_HOUR // 2)", "bins // 288 * 48"),
    ),
    *of(
        "features/profile_features.py",
        "oracle_features",
        (
            "profile of the origin for the target",
            "local_times(bins + horizon, profiles.tz)",
            "local_times(bins, profiles.tz)",
        ),
        ("no shrinkage", "\nPRIOR = 6.0", "\nPRIOR = 0.0"),
        ("unchanged shrunk to 0", "(unchanged + PRIOR) / weight", "unchanged / weight"),
        ("spread around 0", "square / weight - mean * mean", "square / weight"),
        (
            "one day type for any day",
            "sums[None], local, by_day_type=False) for sums in change[:2].sum(1)",
            "sums[None], local, by_day_type=False) for sums in change[:2, 0]",
        ),
        ("no interpolation", "return before * (1 - w) + after * w", "return before"),
        (
            "interpolation backwards",
            "return before * (1 - w) + after * w",
            "return before * w + after * (1 - w)",
        ),
        ("gap negated", "_mean_level(level, local) - bikes", "bikes - _mean_level(level, local)"),
        (
            "activity looks at the row's own future",
            "rows[:, None] - horizon - np.arange(width)",
            "rows[:, None] - horizon + 1 - np.arange(width)",
        ),
        ("activity of frozen feeds", "delta[is_frozen(bikes)[horizon:]] = np.nan", "pass"),
        ("activity without a prior", "prior = 10.0 * width", "prior = 0.0"),
        ("paced by the hour", "factor = relative_activity[1]", "factor = relative_activity[0]"),
        (
            "damping by the hour alone",
            'ACTIVITY_FEATURES = ("network_pace_1h", "network_pace_yesterday")',
            'ACTIVITY_FEATURES = ("network_pace_1h", "network_pace_1h")',
        ),
        ("damping not shrunk", "ACTIVITY_PRIOR = 6.0", "ACTIVITY_PRIOR = 0.001"),
        ("damping raises odds", "one * other, 1)", "one * other, 9)"),
    ),
    *of(
        "features/profiles.py",
        "oracle_features features",
        (
            "changes at their target's hour",
            "np.arange(start - horizon, stop - horizon)",
            "np.arange(start, stop)",
        ),
        ("frozen bins are counted", "delta[frozen] = np.nan", "pass"),
        ("moved is net", "np.abs(value), value * value", "value, value * value"),
        ("a day twice", "day <= profiles.through", "day < profiles.through"),
        (
            "yesterday's activity of known stations only",
            "np.isfinite(usual)[:, None]",
            "(usual > 1)[:, None]",
        ),
        ("activity inverted", "return moved / expected if", "return expected / moved if"),
        (
            "a new station takes another's past",
            "known = have[place] == want",
            "known = np.ones(len(want), bool)",
        ),
    ),
    *of(
        "features/stack.py",
        "oracle_features",
        (
            "unknown status is OK",
            "np.float32(-1), 1 - ok)",
            "np.float32(0), 1 - ok)",
        ),
        ("status inverted", ", 1 - ok)", ", ok)"),
    ),
    *of(
        "tables/panel.py",
        "oracle_forecasts",
        ("negative docks", '- panel["bikes"], 0)', '- panel["bikes"], -99)'),
        ("known docks are forgotten", 'panel.stations.capacity, panel["capacity"])', "np.nan, 0)"),
    ),
    *of(
        "tables/panel.py",
        "oracle_panel frozen_feed",
        ("a network of 199 freezes", "FROZEN_STATIONS = 200", "FROZEN_STATIONS = 199"),
        (
            "one moving station does not thaw",
            "~(moved > 0).any(axis=1)",
            "~(moved > 0).all(axis=1)",
        ),
        ("rows after the window", "(bins < stop)", "(bins <= stop)"),
        ("age in seconds", "pa.float64()), 60.0)", "pa.float64()), 1.0)"),
        (
            "ages negated",
            'pc.subtract(\n            pc.cast(part["ts_utc"]',
            'pc.subtract(\n            pc.cast(part["last_reported_utc"]',
        ),
        (
            "the first value of a station stays",
            "array[place[there]] = column[known][there]",
            "array[place[there][::-1]] = column[known][there][::-1]",
        ),
        (
            "views past the end repeat",
            "if self.start <= start and stop <= self.stop",
            "if self.start <= start",
        ),
    ),
    *of(
        "model/change_distribution.py",
        "oracle_forecasts",
        ("rare classes are kept", "SMALLEST_CLASS = 0.002", "SMALLEST_CLASS = 0.0005"),
        ("falls start a bike early", "1 - edge for edge in", "-edge for edge in"),
        (
            "changes beyond the range are lost",
            "np.bincount(rounded + MAX_CHANGE,",
            "np.bincount(rounded[abs(rounded) < MAX_CHANGE] + MAX_CHANGE,",
        ),
        (
            "blended with the model twice",
            "mixed[:, classes.unchanged] += 1 -",
            "mixed[:, classes.unchanged] +=",
        ),
        ("ties go to moving", "classes.unchanged, 1e-9, -1e-9)", "classes.unchanged, -1e-9, 1e-9)"),
        ("medians off by half a bike", "0.999) - 0.5", "0.999)"),
        (
            "a rise of one more",
            "np.ceil(least).astype(np.int64) + MAX_CHANGE",
            "np.ceil(least).astype(np.int64) + MAX_CHANGE + 1",
        ),
        (
            "a fall of one less",
            "np.floor(most).astype(np.int64) + MAX_CHANGE + 1",
            "np.floor(most).astype(np.int64) + MAX_CHANGE",
        ),
        (
            "no ceiling above the docks",
            "np.where(capacity > 0, np.maximum(capacity, bikes), capacity)",
            "capacity",
        ),
        (
            "a capacity of 0 is raised",
            "np.where(capacity > 0, np.maximum(capacity, bikes), capacity)",
            "np.maximum(capacity, bikes)",
        ),
    ),
    *of(
        "model/blending.py",
        "oracle_forecasts",
        ("moving costs nothing", "COST_OF_MOVING = 0.05", "COST_OF_MOVING = 0.0"),
        ("days are never forgotten", "np.exp(-1 / MEMORY_DAYS)", "1.0"),
        (
            "the boldest of equals",
            "len(BLEND_WEIGHTS) - 1 - int(np.argmax(gain[::-1]))",
            "int(np.argmax(gain))",
        ),
        (
            "seven bins are soon",
            "horizon > SHORT_HORIZON_BINS",
            "horizon > SHORT_HORIZON_BINS + 1",
        ),
        ("boldness needs no proof", "BEYOND = 0.3, 4.0", "BEYOND = 0.3, 0.3"),
        ("doubt never ends", "DOUBT_LEFT = 0.1", "DOUBT_LEFT = 1.0"),
        (
            "the mean is drawn to persistence",
            "(self.cross + prior) / (self.square + prior",
            "self.cross / (self.square + prior",
        ),
        ("means beyond the model", "0, 1))", "0, 2))"),
        (
            "gain of the unrounded median",
            "rounded = np.rint(np.clip(median, 0, most))",
            "rounded = np.clip(median, 0, most)",
        ),
        (
            "gains of the last day only",
            "keep * calibration.gain + np.array(gain)",
            "np.array(gain)",
        ),
    ),
    *of(
        "model/inference.py",
        "oracle_forecasts forecast",
        ("damping of rest too", "scaled[:, unchanged] = found[:, unchanged]", "pass"),
        ("a bike is two", "probability, 1 - bikes)", "probability, 2 - bikes)"),
        ("a dock is one more", "np.where(known, docks, 0) - 1)", "np.where(known, docks, 0))"),
        ("bikes corrected as docks", "has_bike, calibration.bike", "has_bike, calibration.dock"),
        ("means are not blended", "calibration.mean_blend_weight * mean_change", "mean_change"),
        ("stale one bin later", "recent.bins - 1 - stale_after", "recent.bins - 2 - stale_after"),
        (
            "stale one bin earlier",
            "base < recent.bins - 1 - stale_after",
            "base <= recent.bins - 1 - stale_after",
        ),
        ("closed stations are forecast", "ok == 0,", "ok == 2,"),
        ("a day's silence is silent", "age > SILENT_AFTER_MINUTES", "age >= SILENT_AFTER_MINUTES"),
        ("the target is the origin", "stamps(seconds + ahead)", "stamps(seconds)"),
        ("ceilings without free docks", 'seen, panel["bikes"] + docks)', "seen, seen)"),
    ),
    *of(
        "jobs/train_model.py",
        "oracle_registry",
        (
            "the live model is no rival",
            "if theirs is not None and mae",
            "if theirs is None and mae",
        ),
        ("twice the live error will do", "(1 + TOLERANCE)", "(2 + TOLERANCE)"),
        (
            "only better than the live model",
            "theirs.overall.mae * (1 + TOLERANCE)",
            "theirs.overall.mae * (1 - TOLERANCE)",
        ),
        ("as good as persistence will do", "if mae >= persistence", "if mae > 2 * persistence"),
    ),
    *of(
        "jobs/train_model.py",
        "gate",
        ("half as much tolerance again", "TOLERANCE = 0.002", "TOLERANCE = 0.003"),
        ("no more than persistence will do", "if mae >= persistence", "if mae > persistence"),
    ),
    *of(
        "model/registry.py",
        "oracle_registry",
        ("versions sorted as text", "(_numbers(model.version), model", "(model.version, model"),
        ("fallback to a newer model", "<= _numbers(current.version)", "!= (0, 0, 0)"),
        ("fallback to the oldest", "in reversed(versions(", "in (versions("),
        ("versions count from the oldest", "newest = known[-1]", "newest = known[0]"),
        (
            "a changed horizon is a patch",
            'keys = ("features_hash8", "horizon_bins")',
            'keys = ("features_hash8",)',
        ),
        ("a minor keeps its patch", "{minor + 1}.0", "{minor + 1}.{patch}"),
    ),
    *of(
        "jobs/compact_daily.py",
        "oracle_lake",
        ("today's snapshots are deleted", "+ KEPT_BINS <= bin_of", "- KEPT_BINS <= bin_of"),
        ("snapshots are deleted unasked", "settings.delete_after_compact:", "settings.bucket:"),
        ("gone bins are forgotten", "if current is not None:", "if current is None:"),
        (
            "late snapshots added to the old rows",
            "others[start:stop] = False",
            "others[start:stop] = True",
        ),
    ),
    *of(
        "tables/service.py",
        "oracle_panel oracle_forecasts datasets",
        ("closed stations are in service", '(panel["ok"] != 0)', '(panel["ok"] != 2)'),
        ("stations without docks are in service", '(panel["capacity"] != 0)', "True"),
        (
            "docks at least minus",
            "pc.subtract(capacity, bikes), 0,",
            "pc.subtract(capacity, bikes), -9,",
        ),
        ("not renting alone closes", '_above_0(_column(table, "bikes"))', "rents_not"),
        (
            "removed stations are open",
            '_is(table, "is_installed", 0)',
            '_is(table, "is_installed", 9)',
        ),
        (
            "one flag of two closes",
            "pc.and_(rents_not, takes_not))",
            "pc.or_(rents_not, takes_not))",
        ),
    ),
    *of(
        "tables/snapshot.py",
        "oracle_lake snapshot",
        ("the oldest of a bin stays", '("ts_utc", "ascending")', '("ts_utc", "descending")'),
        (
            "a station in each row",
            'pc.equal(here["station_id"], after["station_id"])',
            'pc.equal(here["bikes"], after["bikes"])',
        ),
    ),
    *of(
        "tables/views.py",
        "oracle_lake datasets",
        (
            "partitions found by bin only",
            'keys = ["tbin_utc", "horizon_bins"]',
            'keys = ["tbin_utc"]',
        ),
        ("expired forecasts are lost", "if not gone.num_rows", "if gone.num_rows"),
        ("short of bikes below the bound", "pc.less_equal(pc.cast(count", "pc.less(pc.cast(count"),
        ("the larger bound", "pc.min_element_wise(share", "pc.max_element_wise(share"),
        ("truth of the bin itself", "bikes[t + h, s]", "bikes[t, s]"),
    ),
    *of(
        "monitoring/model/scored_log.py",
        "oracle_lake",
        ("a bike is more than one", "outcome[reported] >= 1", "outcome[reported] > 1"),
        (
            "Brier unsquared",
            "((chance[reported] - happened) ** 2)",
            "abs(chance[reported] - happened)",
        ),
        ("docks at publication", "docks[target, station]", "docks[issued, station]"),
        (
            "truth at publication",
            "bikes[target, station], bikes[issued, station]",
            "bikes[issued, station], bikes[issued, station]",
        ),
        ("leads to 287 bins", "lead <= BINS_PER_DAY", "lead < BINS_PER_DAY"),
        ("forecasts of earlier days count", "mine = (issued >= 0)", "mine = (issued >= -999)"),
    ),
    *of(
        "monitoring/stats/run_lengths.py",
        "oracle_monitoring monitoring_network",
        ("runs across gaps", "(np.diff(at) <= lookback)", "(np.diff(at) <= 2 * lookback)"),
        ("a polled network has holes", "return 2 * step - 1", "return step"),
        ("runs across what does not hold", "(np.diff(rank) == 1)", "(np.diff(rank) >= 1)"),
        ("runs across stations", "(np.diff(station) == 0)", "(np.diff(station) >= 0)"),
    ),
    *of(
        "monitoring/data/plateaus.py",
        "oracle_monitoring",
        ("steps without the first", "found.rows + 1 >= least_steps", "found.rows >= least_steps"),
        (
            "one more step of chance",
            "(1 - rate[station]) ** rows",
            "(1 - rate[station]) ** (rows + 1)",
        ),
        (
            "full is stuck",
            'panel["free_docks"][first, station] == 0',
            'panel["free_docks"][first, station] < 0',
        ),
        ("empty is stuck", "bikes[first, station] == 0", "bikes[first, station] < 0"),
        (
            "out of service at once",
            "rated[opening : last + 1, station].any()",
            "rated[opening, station].any()",
        ),
        ("stuck and quiet swapped", "chance < least_chance else", "chance > least_chance else"),
        ("rates of the station alone", "changes + BINS_PER_DAY * network", "changes + network"),
        (
            "starts at its second observation",
            "opening = int(at[first, station])",
            "opening = first",
        ),
    ),
    *of(
        "monitoring/data/coverage.py",
        "oracle_monitoring monitoring_health",
        (
            "new stations are expected from the start",
            "np.where(known_before, 0, since_seen)",
            "0 * since_seen",
        ),
        (
            "known stations from their first bin",
            "np.where(known_before, 0, since_seen)",
            "since_seen",
        ),
        (
            "a recording that ended is missing to the end of the window",
            " & (np.arange(panel.bins) < _stop(parts) - panel.start)",
            "",
        ),
        ("spans one bin short", "due[_first(there)] + 1 if", "due[_first(there)] if"),
        (
            "coverage of the observed only",
            "coverage.seen[expected] / coverage.expected[expected]",
            "coverage.seen[present] / coverage.expected[present]",
        ),
    ),
    *of(
        "monitoring/data/distances.py",
        "oracle_monitoring monitoring_drift",
        ("PSI without smoothing", "SMOOTHING = 0.5", "SMOOTHING = 0.01"),
        ("PSI of one direction", "(p - q) * np.log(p / q)", "p * np.log(p / q)"),
        (
            "edges belong below",
            'side="right")\n        return np.where',
            'side="left")\n        return np.where',
        ),
        ("zeros are values like others", "zero = zeros > 1 / most", "zero = zeros > 1"),
        ("KS of one side", "np.abs(ours - theirs).max()", "(ours - theirs).max()"),
        (
            "KS of all values",
            "size = units[0] * units[1] / (units[0] + units[1])",
            "size = units[0] + units[1]",
        ),
        ("Wasserstein in bikes", "float(distance) / spread", "float(distance)"),
        ("weights are left out", "weights[order].astype(np.float64)", "np.ones(len(values))"),
    ),
    *of(
        "monitoring/data/drift.py",
        "oracle_monitoring",
        (
            "reference unweighted",
            "np.where(reference, share[kind],",
            "np.where(reference, 1.0 * both[kind],",
        ),
        ("shares inverted", "np.divide(cur, ref, out", "np.divide(ref, cur, out"),
        ("units are days", "float(len(days) * stations)", "float(len(days))"),
        (
            "variance of now",
            "(now.mean() - before.mean()) / before.variance() ** 0.5",
            "(now.mean() - before.mean()) / now.variance() ** 0.5",
        ),
    ),
    *of(
        "monitoring/data/hourly_means.py",
        "oracle_monitoring",
        ("kinds by UTC", "local_times(at, window.tz)", 'local_times(at, "UTC")'),
        (
            "sums for means",
            "np.divide(array, counts[name], out=array, where=counts[name] > 0)",
            "pass",
        ),
    ),
    *of(
        "monitoring/network/dynamics.py",
        "oracle_monitoring monitoring_network",
        (
            "episodes one step short",
            "found.last - found.first + step) * BIN_MINUTES\n        keep",
            "found.last - found.first) * BIN_MINUTES\n        keep",
        ),
        (
            "longer than the least",
            "keep = lasted >= limits.episode_min",
            "keep = lasted > limits.episode_min",
        ),
        ("penury for saturation", '"saturation": "is_saturation"', '"saturation": "is_penury"'),
        ("today from its first hour", "< BINS_PER_DAY // 2", "< 12"),
        ("weeks are days", "dt.timedelta(weeks=week)", "dt.timedelta(days=week)"),
        (
            "rates of all observations",
            'rated = np.isfinite(panel["is_penury"]) & np.isfinite(panel["is_saturation"])',
            'rated = np.isfinite(panel["bikes"])',
        ),
    ),
    *of(
        "monitoring/data/health.py",
        "monitoring_health",
        (
            "duplicates counted with the first",
            "np.bincount((bins - bins.min()) * len(ids) + station) - 1",
            "np.bincount((bins - bins.min()) * len(ids) + station)",
        ),
        (
            "ages ahead of the clock",
            "np.maximum(instant.timestamp() -",
            "np.minimum(instant.timestamp() -",
        ),
        (
            "coverage at the limit alerts",
            "coverage < limits.compl_alert_pct",
            "coverage > limits.compl_alert_pct",
        ),
    ),
    *of(
        "features/spatial_features.py",
        "oracle_features",
        ("a mean of stations for the centre", "[np.median(lat)]", "[np.mean(lat)]"),
    ),
    *of(
        "model/change_distribution.py",
        "oracle_forecasts",
        ("classes hold what is beyond them", "shares[edge - 1 :].sum()", "shares[edge:].sum()"),
    ),
    *of(
        "model/evaluation.py",
        "gate",
        ("Brier of persistence turned", "(now != true).mean()", "(now == true).mean()"),
    ),
    *of(
        "jobs/compact_daily.py",
        "compact_daily",
        ("snapshots go after a day", "KEPT_BINS = 26 *", "KEPT_BINS = 24 *"),
    ),
    *of(
        "jobs/ingest.py",
        "ingest",
        (
            "repeats of each poll add up",
            "max(held.get(s, 0), rows.get(s, 0))",
            "held.get(s, 0) + rows.get(s, 0)",
        ),
    ),
    *of(
        "feeds/values.py",
        "gbfs",
        ("milliseconds from 2001 on", "(1e11, 1e3)", "(1e12, 1e3)"),
        ("a comma is left out", '.replace(",", ".")', '.replace(",", "")'),
    ),
    *of(
        "feeds/observed.py",
        "gbfs",
        ("the newest clock counts", "known[-1 - int(len(known) * _ODD_CLOCKS)]", "known[-1]"),
    ),
    *of(
        "monitoring/network/dynamics.py",
        "monitoring_network",
        ("a quarter of a day will do", "< BINS_PER_DAY // 2", "< BINS_PER_DAY // 4"),
        ("fuller than full", "np.clip(occ, 0, 1)", "occ"),
    ),
    *of(
        "monitoring/network/overview.py",
        "monitoring_network",
        ("stale at a day", "[-1] > limits.stale_min", "[-1] >= limits.stale_min"),
        ("tension without full stations", ' - r["saturation_rate"], r', ", r"),
    ),
    *of(
        "monitoring/data/health.py",
        "monitoring_health",
        (
            "lags of years",
            "np.clip(ages[np.isfinite(ages)], 0, limits.lat_max_min)",
            "np.maximum(ages[np.isfinite(ages)], 0)",
        ),
    ),
    *of(
        "model/rows.py",
        "oracle_forecasts frozen_feed forecast",
        (
            "targets may be unknown",
            'in_service(now)[rows] & ~np.isnan(later["bikes"][rows])',
            "in_service(now)[rows]",
        ),
        (
            "targets at the origin",
            "Bin(now.start + horizon), Bin(now.stop + horizon)",
            "Bin(now.start), Bin(now.stop)",
        ),
        (
            "learning from frozen feeds",
            "later = (seen & ~is_frozen(bikes)[FROZEN_BINS:])[horizon:]",
            "later = seen[horizon:]",
        ),
    ),
    *of(
        "model/training.py",
        "forecast gate",
        ("learning targets in the days kept out", "end - walk.horizon)", "end)"),
        ("tuning days earn full weight", "calibration, days=0)", "calibration)"),
        (
            "of few bins every second calibrates",
            "max(1, len(at) // CALIBRATION_BINS)",
            "max(2, len(at) // CALIBRATION_BINS)",
        ),
    ),
    *of(
        "model/registry.py",
        "model_registry hostile_values",
        ("a changed file of a model is loaded", "if _sha256(data) != checksum:", "if not data:"),
        ("versions count on from any", "MOST_COUNTED = 10**6", "MOST_COUNTED = 10**9"),
    ),
    *of(
        "lake/bucket.py",
        "hostile_values",
        ("a newer object is deleted", "if_generation_match=entry.generation, ", ""),
        ("what claims to be compressed is unpacked", "raw_download=True", "raw_download=False"),
    ),
    *of(
        "lake/layout.py",
        "hostile_objects layout",
        ("a day of 2099 is the newest", "if key.day > last:", "if key.day is None:"),
    ),
    *of(
        "lake/readable.py",
        "hostile_values",
        ("any size is downloaded", "if entry.size > most:", "if most < 0:"),
    ),
    *of(
        "timeline/bins.py",
        "hostile_values",
        ("the ends of the calendar are days", "if day.year not in YEARS:", "if not day.year:"),
    ),
    *of(
        "events/parsing.py",
        "events",
        ("events of any bucket", "if bucket != settings.bucket:", "if bucket is None:"),
    ),
    *of(
        "tables/parquet.py",
        "hostile_snapshots hostile_values",
        (
            "row groups are taken at the footer's word",
            "sum(group.num_rows for group in groups)",
            "metadata.num_rows",
        ),
        ("a value of a column is counted once", "width * metadata.num_rows", "width"),
    ),
    *of(
        "tables/day_rows.py",
        "hostile_values",
        (
            "rows without a time",
            "if field.name in _NEVER_NULL and typed.null_count:",
            "if field.name == _NEVER_NULL:",
        ),
        ("numbers of any size", "if not low <= value <= high:", "if value is None:"),
    ),
    *of(
        "tables/npz.py",
        "hostile_objects",
        ("arrays unpack to any size", "<= MAX_ARRAYS and sum(sizes) <= limit", "<= MAX_ARRAYS"),
    ),
    *of(
        "jobs/reconcile.py",
        "reconcile",
        (
            "a stage that fails ends the run",
            "with contextlib.nullcontext() if failed is None else _isolated(stage, failed):",
            "with contextlib.nullcontext():",
        ),
    ),
    *of(
        "jobs/build_serving_forecast.py",
        "hostile_values",
        (
            "a forecast of 2099 stays",
            "ours < (dated_bin(live) or 0) < end_of_observations()",
            "ours < (dated_bin(live) or 0)",
        ),
    ),
    *of(
        "jobs/family_update.py",
        "hostile_values",
        ("alerts without end", '["alerts"][:MOST_ALERTS]', '["alerts"]'),
    ),
]

SURVIVORS: dict[str, str] = {}
"""Mutants that no test notices, each with the reason why that is right."""
