"""What a run notes in the folder that it makes: its source, its settings, its command."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource
from velib_core.settings.env import as_prefix, as_url
from velib_core.settings.network import Settings, all_variables
from velib_local.records import COMMAND, RECORDS, SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

    from velib_local.simulation.observations import Understood

SOURCE_RECORD = "source.json"
"""In the records of a replay: which recording it played."""


def claim_folder(out: Path, source: Path, understood: Understood) -> None:
    """Note what a folder is made of; refuse one that holds another source: it would be mixed in.

    The same file is the same source, and so is one of that name with the same city in it.
    """
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    record = out / RECORDS / SOURCE_RECORD
    if record.is_file():
        held = json.loads(record.read_text("utf-8"))
        common = understood.stations & set(held["stations"])
        few = min(len(understood.stations), len(held["stations"])) / 2
        same_city = held["tz"] == understood.tz and len(common) >= few
        if digest != held["digest"] and not (source.name == held["source"] and same_city):
            message = f"--out {out} holds {held['source']}; take another folder for {source}"
            raise click.UsageError(message)
    elif (out / RECORDS).is_dir():
        raise click.UsageError(f"--out {out} holds another run; take another folder for {source}")
    elif out.exists() and any(out.iterdir()):
        raise click.UsageError(f"--out {out} is not empty and not a folder of an earlier run")
    record.parent.mkdir(parents=True, exist_ok=True)
    known = {"source": source.name, "digest": digest, "tz": understood.tz}
    record.write_text(json.dumps(known | {"stations": sorted(understood.stations)}), "utf-8")


def keep_settings(settings: Settings, out: Path) -> None:
    """Keep the settings of a run with its objects, for whoever looks at them later.

    Not where objects lie and feeds are: those are places of the run.
    """
    changed = []
    for field in all_variables():
        name = field.metadata["names"][0]
        value = os.environ.get(name, "")
        if value and field.metadata["parse"] not in {as_prefix, as_url}:
            changed.append(f"{name}={value}\n")
    known = {"MON_TZ": settings.tz, "VELIB_NETWORK": settings.network}
    kept = [line for line in changed if line.partition("=")[0] not in known]
    kept += [f"{name}={value}\n" for name, value in known.items()]
    (out / RECORDS / SETTINGS).write_text("".join(kept), "utf-8")


def keep_command(context: click.Context, out: Path) -> None:
    """Keep the command that runs as a list of words, without options left at their default."""
    words = [str(context.info_name)]
    for option in context.command.params:
        name = str(option.name)
        if name != "as_json" and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            is_flag = getattr(option, "is_flag", False)
            words += [option.opts[0]] if is_flag else [option.opts[0], str(context.params[name])]
    (out / RECORDS / COMMAND).write_text(json.dumps(words), "utf-8")


def command_that_made(folder: Path) -> str | None:
    """Return the command that made a mirrored lake, ``None`` where that is not recorded.

    The record is part of a folder that anyone may have sent, so it can only be a run of ours.
    """
    try:
        words = json.loads((folder / RECORDS / COMMAND).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(words, list) or words[:1] not in (["demo"], ["replay"]):
        return None
    return shlex.join(["velib", *map(str, words)])
