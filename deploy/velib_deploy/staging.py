"""Write ``build/<function>/``: one self-contained folder per function, ready to upload.

A staged folder holds the function's ``main.py``, the library, and a ``requirements.txt`` that pins
every distribution to be installed, including indirect ones, to the version and the hashes in
``constraints.txt``. The same tree gives the same bytes, so a deployment compares digests to find
out whether anything changed. ``python -m velib_deploy.staging --out build``.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from velib_core.errors import InvalidValueError

from velib_deploy.commands import RUNTIME
from velib_deploy.function_specs import REPOSITORY, load_specs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packaging.utils import NormalizedName

PYTHON = re.sub(r"python(\d)(\d+)", r"\1.\2", RUNTIME)
"""The version of Python that functions run on, as in 3.11."""

TARGET = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": f"{PYTHON}.0",
    "python_version": PYTHON,
    "sys_platform": "linux",
}
"""Where functions run, as environment markers; independent of the machine that stages them."""

PIN = re.compile(r"^([\w.-]+)==([^\s;]+)[^\\\n]*((?:\\\n +--hash=\S+ ?)+)", re.MULTILINE)
"""A requirement of ``constraints.txt``: name, version, hashes; markers are skipped."""


class Pin(NamedTuple):
    """The tested version of a distribution and the hashes of its files."""

    version: str
    hashes: tuple[str, ...]
    """As pip takes them: ``sha256:…``."""


Pins = dict["NormalizedName", Pin]


class StagingError(InvalidValueError):
    """A requirement without a pinned version."""


def stage(name: str, out: Path, repository: Path = REPOSITORY) -> Path:
    """Write one function's folder below ``out``, replacing an older one; return its path.

    Raises `StagingError` if a requirement is not in ``constraints.txt``, and ``KeyError`` if
    there is no such function.
    """
    spec = load_specs(repository / "functions")[name]
    pins = read_pins(repository / "constraints.txt")
    needs = requirements((spec.folder / "requirements.txt").read_text("utf-8"))
    lines = [_pinned(needed, pins[needed]) for needed in sorted(closure(needs, pins))]
    target = out / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copyfile(spec.folder / "main.py", target / "main.py")
    (target / "requirements.txt").write_text("--require-hashes\n" + "".join(lines), "utf-8")
    _vendor(repository / "shared" / "velib_core", target / "velib_core")
    return target


def read_pins(constraints: Path) -> Pins:
    """Read the pins of a constraints file; a line without a hash is no pin."""
    return {
        canonicalize_name(name): Pin(version, tuple(re.findall(r"--hash=(\S+)", hashes)))
        for name, version, hashes in PIN.findall(constraints.read_text("utf-8"))
    }


def _pinned(name: NormalizedName, pin: Pin) -> str:
    return " \\\n    ".join([f"{name}=={pin.version}", *(f"--hash={h}" for h in pin.hashes)]) + "\n"


def requirements(text: str) -> list[Requirement]:
    """Parse a requirements.txt of names and specifiers."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]


def closure(
    needs: Iterable[Requirement], pins: Mapping[NormalizedName, Pin]
) -> set[NormalizedName]:
    """Return every distribution that installing some requirements installs on `TARGET`.

    Dependencies are read from the metadata of the distributions in this environment. Raises
    `StagingError` for one that is not pinned or not installed here.
    """
    found: dict[NormalizedName, set[str]] = {}
    waiting = list(needs)
    while waiting:
        need = waiting.pop()
        name, extras = canonicalize_name(need.name), {"", *need.extras}
        new = extras - found.setdefault(name, set())
        if not new:
            continue
        found[name] |= new
        if name not in pins:
            raise StagingError("requirement", name, "a version and its hashes in constraints.txt")
        waiting += [n for n in _requires(name) if _applies(n, new)]
    return set(found)


def _requires(name: NormalizedName) -> list[Requirement]:
    try:
        return [Requirement(line) for line in importlib.metadata.requires(name) or []]
    except importlib.metadata.PackageNotFoundError:
        raise StagingError("requirement", name, "a distribution that is installed here") from None


def _applies(need: Requirement, extras: set[str]) -> bool:
    marker = need.marker
    return marker is None or any(marker.evaluate({**TARGET, "extra": extra}) for extra in extras)


def _vendor(package: Path, target: Path) -> None:
    for source in sorted(package.rglob("*")):
        if source.is_file() and "__pycache__" not in source.parts:
            copy = target / source.relative_to(package)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
@click.option("--only", metavar="FUNCTION", help="Stage this function and no other.")
def main(out: Path, only: str | None) -> None:
    """Write the folders that `deploy.sh` uploads."""
    names = list(load_specs())
    if only is not None and only not in names:
        raise click.BadParameter(f"{only} is none of {', '.join(names)}", param_hint="--only")
    for name in [only] if only else names:
        click.echo(stage(name, out))


if __name__ == "__main__":
    main()
