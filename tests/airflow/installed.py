"""An Airflow of its own for tests: its environment, its SQLite database, and the processes that it has started."""

import json
import os
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
BIN = ROOT / "build" / "airflow-venv" / "bin"

_MARK = "HPO_SPARK_TEST_AIRFLOW"
_MINUTES = 60.0


class Airflow:
    """Airflow with a database in a folder; it finds Spark's environment, which is this one, on ``PATH``.

    Args:
        folder: For the database, the study files and the run folders.
    """

    def __init__(self, folder):
        assert BIN.exists(), f"{BIN} is missing: make test-airflow makes it"
        self.folder = folder
        self.database = folder / "home" / "airflow.db"
        self.mark = uuid.uuid4().hex
        self.environment = {
            **os.environ,
            "AIRFLOW_HOME": str(folder / "home"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_SPARK_DEFAULT": connection("local[2]", "client"),
            "AIRFLOW_CONN_YARN_CLUSTER": connection("yarn", "cluster"),
            "HPO_SPARK_TEST_FOLDER": str(folder),
            "PATH": os.pathsep.join(
                [str(folder / "bin"), str(BIN), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "jobs" / "airflow")]),
            "SPARK_LOCAL_IP": "127.0.0.1",
            _MARK: self.mark,
        }

    def call(self, *words, minutes=10):
        """Run a program of Airflow's environment to its end."""
        return subprocess.run(
            [BIN / words[0], *words[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=self.environment,
            timeout=minutes * _MINUTES,
            check=False,
        )

    def test(self, dag, **params):
        """Run a DAG as `airflow dags test` does, to its end."""
        return self.call(*self._words(dag, params))

    def begin(self, dag, log, **params):
        """The same as a process that goes on."""
        name, *rest = self._words(dag, params)
        with log.open("wb") as out:
            return subprocess.Popen(
                [BIN / name, *rest],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,
            )

    def tasks(self, dag):
        """State and number of tries of each task of a DAG's last run."""
        rows = self._select("task_id, state, try_number", "task_instance", dag)
        return {task: (state, tries) for task, state, tries in rows}

    def xcom(self, dag, task):
        """What a task of a DAG's last run returned."""
        rows = self._select("task_id, key, value", "xcom", dag)
        (value,) = (value for name, key, value in rows if (name, key) == (task, "return_value"))
        return json.loads(value) if isinstance(value, str) else value  # SQLite makes a number of a number's JSON

    def run_folder(self, dag):
        """Where the search of a DAG's last run is."""
        return max((self.folder / "runs" / dag).iterdir(), key=lambda path: path.stat().st_ctime)

    def spark_processes(self):
        """All that live of what tasks have started: spark-submit, drivers, workers, trial processes."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get(_MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE
                if is_ours and not any(word.startswith(str(BIN)) for word in process.cmdline()[:2]):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def stop(self):
        """Kill whatever is left."""
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == self.mark:
                    process.kill()
            except psutil.Error:
                continue

    def _words(self, dag, params):
        return ["airflow", "dags", "test", dag, "--conf", json.dumps(params)]

    def _select(self, columns, table, dag):
        with sqlite3.connect(self.database) as database:
            (run,) = database.execute("select run_id from dag_run where dag_id = ? order by id desc limit 1", [dag])
            return database.execute(
                f"select {columns} from {table} where dag_id = ? and run_id = ?", [dag, run[0]]
            ).fetchall()


def connection(master, deploy_mode):
    return json.dumps({"conn_type": "spark", "host": master, "extra": {"deploy-mode": deploy_mode}})
