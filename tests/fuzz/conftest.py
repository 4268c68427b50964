"""One process for all tests that read dangerous files."""

from collections.abc import Iterator

import pytest

from tests.fuzz.reading import ReadingProcess


@pytest.fixture(scope="package")
def reading() -> Iterator[ReadingProcess]:
    process = ReadingProcess()
    yield process
    process.close()
