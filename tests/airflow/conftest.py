import pytest
from installed import Airflow


@pytest.fixture(scope="session")
def airflow(tmp_path_factory):
    """Airflow with a database; it ends with all that it has started."""
    found = Airflow(tmp_path_factory.mktemp("airflow"))
    try:
        migrated = found.call("airflow", "db", "migrate")
        assert migrated.returncode == 0, migrated.stdout
        yield found
        assert found.spark_processes() == []
    finally:
        found.stop()
