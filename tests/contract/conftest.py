"""The fixture that holds documents to the contract."""

from __future__ import annotations

from typing import Any

import pytest
from contract.documents import problems


@pytest.fixture
def validate() -> Any:
    """Assert that all documents of a folder keep to their schemas and that the manifest is last."""

    def check(folder: Any, documents: Any) -> None:
        found = [p for name, doc in documents.items() for p in problems(f"{folder}/{name}", doc)]
        assert found == []
        assert list(documents)[-1] == "manifest.json"
        manifest = documents["manifest.json"]
        assert manifest["status"] in {"ok", "partial", "no_data"}
        assert manifest["status"] == "ok" or manifest["reason"]

    return check
