"""The fixture that holds documents to the contract."""

import pytest
from contract.documents import problems


@pytest.fixture
def validate():
    """Assert that all documents of a folder keep to their schemas and that the manifest is last."""

    def check(folder, documents):
        found = [p for name, doc in documents.items() for p in problems(f"{folder}/{name}", doc)]
        assert found == []
        assert list(documents)[-1] == "manifest.json"
        manifest = documents["manifest.json"]
        assert manifest["status"] in {"ok", "partial", "no_data"}
        assert manifest["status"] == "ok" or manifest["reason"]

    return check
