"""Bytes of unknown origin → named arrays, within a limit that the archive's directory must keep."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from velib_core.errors import InvalidValueError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ARRAYS = 64


class ArraysError(InvalidValueError):
    """Bytes that are no archive of arrays, or one beyond the limit."""


def read(data: bytes, limit: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` that unpack to at most ``limit`` bytes; none is unpickled.

    Raises `ArraysError` for anything else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sizes = [member.file_size for member in archive.infolist()]
        if len(sizes) <= MAX_ARRAYS and sum(sizes) <= limit:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # what a decoder raises on hostile bytes is on no list
        raise ArraysError("archive", data[:16], f"an archive of arrays ({error!r:.200})") from error
    found = f"{len(sizes)} arrays of {sum(sizes)} bytes"
    raise ArraysError("archive", found, f"at most {MAX_ARRAYS} arrays of {limit} bytes")
