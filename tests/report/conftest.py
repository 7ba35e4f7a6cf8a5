from __future__ import annotations

from pathlib import Path

import pytest

from offtake.report.parts import Page
from offtake.report.sections import page
from offtake.report.tables import read_run
from tests.report.run_folder import build_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def content(run_folder: Path) -> Page:
    return page(read_run(run_folder))
