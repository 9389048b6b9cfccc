"""Google's own Pub/Sub emulator, where the Cloud SDK is installed."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from velib_local.emulator import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

_JAR = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*.jar"


def find_emulator() -> Path | None:
    """Return the emulator's jar, or ``None`` where the SDK, the component or Java is missing."""
    gcloud, java = shutil.which("gcloud"), shutil.which("java")
    return _emulator_of(gcloud) if gcloud and java else None


@functools.cache
def _emulator_of(gcloud: str) -> Path | None:
    asked = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    jars = sorted(Path(asked.stdout.strip() or "/nonexistent").glob(_JAR))
    return jars[-1] if jars else None


@contextlib.contextmanager
def google_emulator(log: Path) -> Iterator[str]:
    """Run the emulator; yield its address, host:port.

    The jar is started directly: ``gcloud beta emulators`` leaves its Java process behind.
    """
    jar = find_emulator()
    if jar is None:
        raise processes.LocalServerError(
            "Google's Pub/Sub emulator is not installed here: install the Cloud SDK with the "
            "component pubsub-emulator and Java, or use --pubsub=embedded"
        )
    port = processes.free_port()
    command = ["java", "-jar", str(jar), "--host=127.0.0.1", f"--port={port}"]
    with log.open("wb") as sink:
        process = processes.start(command, stdout=sink, stderr=sink)
    try:
        processes.wait_until_answering(f"http://127.0.0.1:{port}/", process, log)
        yield f"127.0.0.1:{port}"
    finally:
        processes.stop(process)
