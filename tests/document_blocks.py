"""The documents, taken apart: their blocks of code, their commands, the words they quote."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from velib_deploy.function_specs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = (
    REPOSITORY / "README.md",
    REPOSITORY / "CHANGELOG.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
)

_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_NEW_FILE = re.compile(r"New file `([^`]+)`[^`]*(?:`[^`]+`[^`]*)*\Z")


class Block(NamedTuple):
    """A fenced block: its document, heading, language and text, and the file it is to become."""

    document: str
    heading: str
    language: str
    text: str
    file: str | None


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    text = document.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        heading = re.findall(r"^#+ (.*)$", before, re.MULTILINE)[-1]
        named = _NEW_FILE.search(before.rpartition("\n\n")[0].rpartition("\n\n")[2])
        body = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
        file = named[1] if named else None
        found.append(Block(document.name, heading, match[2], body, file))
    return found


def commands(block: Block) -> list[str]:
    """Return the commands of a shell block, each with its continuation lines or here-document."""
    found: list[str] = []
    end = None
    for line in block.text.splitlines():
        if end is not None or (found and found[-1].endswith("\\\n")):
            found[-1] += line + "\n"
            end = None if line == end else end
            if end is None and not line.endswith("\\"):
                found[-1] = found[-1].removesuffix("\n")
            continue
        here = re.search(r"<<(\w+)", line)
        end = here[1] if here else None
        command = re.sub(r"\s{2,}# .*$", "", line)
        found.append(command + ("\n" if here or line.endswith("\\") else ""))
    return [command for command in found if command.strip()]


def prose(document: Path) -> str:
    """Return a document without its fenced and indented blocks."""
    text = _FENCE.sub("", document.read_text("utf-8"))
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def quoted(document: Path) -> list[str]:
    """Return what a document quotes as code in its prose, each once."""
    words = re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", prose(document))
    return list(dict.fromkeys(word.replace("\n", " ") for word in words))
