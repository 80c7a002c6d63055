"""One Prefect harness for the tests that need a server; it costs seconds, so it is shared."""

from unittest.mock import patch

import pytest

from tests.prefect_server import put_migrated


@pytest.fixture(scope="session")
def prefect_harness(tmp_path_factory):
    # Imported here: that takes seconds, which the other files need not wait.
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    folder = tmp_path_factory.mktemp("harness")
    put_migrated(tmp_path_factory, folder / "prefect-test.db")
    with (
        patch("prefect.testing.utilities.mkdtemp", lambda: str(folder)),  # where the harness has its database
        prefect_test_harness(server_startup_timeout=180),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield
