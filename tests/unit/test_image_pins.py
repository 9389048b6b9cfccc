"""Images pinned by digest, from a registry that asks for a token as the real ones do."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from velib_core.errors import InvalidValueError
from velib_deploy.function_specs import REPOSITORY
from velib_deploy.image_pins import Image, main, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Registry(http.server.BaseHTTPRequestHandler):
    """Manifests by path; a token for whoever asks, and none without."""

    manifests: dict[str, bytes]
    token = "open-to-all"

    def do_GET(self) -> None:
        host = self.headers["Host"]
        if self.path.startswith("/token?"):
            return self.answer(200, json.dumps({"token": self.token}).encode())
        if self.headers["Authorization"] != f"Bearer {self.token}":
            challenge = f'Bearer realm="http://{host}/token",service="{host}",scope="pull"'
            return self.answer(401, b"", {"WWW-Authenticate": challenge})
        manifest = self.manifests.get(self.path)
        lie = {"Docker-Content-Digest": "sha256:" + "0" * 64}
        return self.answer(200, manifest, lie) if manifest else self.answer(404, b"")

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name of the base
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[tuple[str, dict[str, bytes]]]:
    """The address of a registry, and its manifests."""
    manifests: dict[str, bytes] = {}
    handler = type("Handler", (Registry,), {"manifests": manifests})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", manifests
        server.shutdown()


def run(file: Path) -> Any:
    return CliRunner().invoke(main, [str(file)])


def test_each_image_of_the_build_is_pinned_to_what_its_tag_names_now(
    registry: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """The build of the tree, on a registry of this machine; then again after a tag moved."""
    host, manifests = registry
    build = (REPOSITORY / "cloudbuild.yaml").read_text("utf-8")
    tags = ("python:3.11-bookworm", "google.com/cloudsdktool/google-cloud-cli:stable")
    build = build.replace(f"name: {tags[0]}", f"name: {host}/{tags[0]}").replace("gcr.io", host)
    file = tmp_path / "cloudbuild.yaml"
    file.write_text(build, "utf-8")
    for version in (b'{"version": 1}', b'{"version": 2}'):
        want = build
        for tag in tags:
            manifest = tag.encode() + version
            manifests[f"/v2/{tag.replace(':', '/manifests/')}"] = manifest
            image = f"name: {host}/{tag}"
            want = want.replace(image, f"{image}@sha256:{hashlib.sha256(manifest).hexdigest()}")
        done = run(file)
        assert (done.exit_code, done.output.count("@sha256:")) == (0, 3), done.output
        assert file.read_text("utf-8") == want


def test_an_image_that_the_registry_lacks_leaves_the_build_as_it_was(
    registry: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    host, manifests = registry
    manifests["/v2/a/manifests/1"] = b"{}"
    text = f"steps:\n  - name: {host}/a:1\n  - name: {host}/b:1\n"
    file = tmp_path / "cloudbuild.yaml"
    file.write_text(text, "utf-8")
    done = run(file)
    assert done.exit_code == 1
    assert f"/v2/b/manifests/1. {file} is as it was" in done.output
    assert file.read_text("utf-8") == text


def test_an_image_without_a_host_is_of_docker_hub() -> None:
    hub = "registry-1.docker.io"
    assert parsed("python:3.11-bookworm") == Image(hub, "library/python", "3.11-bookworm")
    assert parsed("someone/tool:1") == Image(hub, "someone/tool", "1")
    assert parsed("gcr.io/google.com/tool:stable") == Image("gcr.io", "google.com/tool", "stable")


def test_an_image_without_a_tag_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="expected HOST/REPOSITORY:TAG"):
        parsed("python")
