"""What every test here needs of the machine."""

import pytest

from .traced import need_strace


@pytest.fixture(scope="session")
def strace(tmp_path_factory: pytest.TempPathFactory) -> str:
    return need_strace(tmp_path_factory.mktemp("strace"))
