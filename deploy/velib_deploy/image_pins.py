"""The images of ``cloudbuild.yaml`` pinned: each tag with the digest that its registry serves now.

A tag may name another image tomorrow, a digest cannot. The digest is computed from the manifest
itself (https://distribution.github.io/distribution/spec/api/), so a registry that reports another
one changes nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path

import click
import requests
from velib_core.errors import InvalidValueError

TIMEOUT_S = 20
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
"""What a tag may name: with images for several processors first, as Docker asks."""

_STEP = re.compile(r"^(?P<before> +(?:- )?name: )(?P<image>[^\s@#]+)(?:@\S+)?$", re.MULTILINE)
_IMAGE = re.compile(r"(?:(?P<host>[^/]*[.:][^/]*)/)?(?P<path>[a-z0-9._/-]+):(?P<tag>[\w.-]+)")


@dataclasses.dataclass(frozen=True)
class Image:
    """Where a registry has an image: the registry's host, the repository, the tag."""

    host: str
    path: str
    tag: str

    @property
    def scheme(self) -> str:
        """``https``, but for a registry of this machine."""
        return "http" if self.host.partition(":")[0] in {"localhost", "127.0.0.1"} else "https"


def parsed(image: str) -> Image:
    """Return where an image is; one without a host is Docker Hub's."""
    found = _IMAGE.fullmatch(image)
    if found is None:
        raise InvalidValueError("image", image, "HOST/REPOSITORY:TAG, or REPOSITORY:TAG")
    host, path = found["host"], found["path"]
    if host is None:
        official = "/" not in path
        host, path = "registry-1.docker.io", f"library/{path}" if official else path
    return Image(host, path, found["tag"])


def digest(image: Image) -> str:
    """Return the digest of what a tag names now; raise `requests.RequestException` without one."""
    url = f"{image.scheme}://{image.host}/v2/{image.path}/manifests/{image.tag}"
    headers = {"Accept": MANIFESTS}
    answer = requests.get(url, headers=headers, timeout=TIMEOUT_S)
    if answer.status_code == requests.codes.unauthorized:
        headers["Authorization"] = f"Bearer {_token(answer.headers.get('WWW-Authenticate', ''))}"
        answer = requests.get(url, headers=headers, timeout=TIMEOUT_S)
    answer.raise_for_status()
    return f"sha256:{hashlib.sha256(answer.content).hexdigest()}"


def _token(challenge: str) -> str:
    """Return the token that a registry gives to anybody who asks where its challenge says."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not challenge.startswith("Bearer ") or "realm" not in asked:
        raise InvalidValueError("WWW-Authenticate", challenge, 'Bearer realm="…"')
    answer = requests.get(asked.pop("realm"), params=asked, timeout=TIMEOUT_S)
    answer.raise_for_status()
    given = answer.json()
    return str(given.get("token") or given["access_token"])


def pinned(text: str) -> str:
    """Return a build file with the present digest behind the tag of each step's image."""

    def pin(step: re.Match[str]) -> str:
        return f"{step['before']}{step['image']}@{digest(parsed(step['image']))}"

    return _STEP.sub(pin, text)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(file: Path) -> None:
    """Pin the images of FILE, as in cloudbuild.yaml, to the digests of now."""
    try:
        text = pinned(file.read_text("utf-8"))
    except (requests.RequestException, InvalidValueError) as error:
        raise click.ClickException(f"{error}. {file} is as it was") from error
    file.write_text(text, "utf-8")
    for step in _STEP.finditer(text):
        click.echo(step[0].strip())


if __name__ == "__main__":
    main()
