"""Files and code on their way to the hosts behind a Spark Connect server: as artifacts of the session.

Spark gives each executor a copy, which the cache of its host then takes over. Nothing is sent where the hosts already
have the files. The server keeps artifacts until the session ends.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hpo_spark
from hpo_spark.cache import files_of
from hpo_spark.executors.host_files import FillTask, HostFiles
from hpo_spark.executors.shared import HostPath
from hpo_spark.versions import __version__

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

__all__ = ["ConnectFiles", "send_package"]


@dataclass(frozen=True)
class _Artifacts:
    """The files of a folder, as artifacts.

    Attributes:
        path: Where they go.
        n_bytes: Their sizes, together.
        files: Name and artifact of each.
    """

    path: HostPath
    n_bytes: int
    files: tuple[tuple[str, str], ...]

    def write(self, folder: Path) -> None:
        """Write the files, on a worker."""
        from pyspark import SparkFiles

        for name, artifact in self.files:
            source = SparkFiles.get(artifact)
            try:
                os.link(source, folder / name)
            except OSError:  # another file system
                shutil.copyfile(source, folder / name)


class ConnectFiles(HostFiles):
    """What an executor shares by artifacts.

    Args:
        spark: The session.
    """

    def __init__(self, spark: SparkSession) -> None:
        super().__init__()
        self._spark = spark
        self._sent: dict[HostPath, _Artifacts] = {}
        # Equal files are sent once, whoever shares them: an artifact keeps its name, and cannot be taken back.
        self._names: set[str] = set()
        self._sending = threading.Lock()

    def send(self) -> FillTask:
        """Send what is shared and was not sent yet; answers with what fills the cache of a host."""
        with self._sending:
            shared = self.shared
            for path in shared:
                if path not in self._sent and (folder := self._folder(path)) is not None:
                    self._sent[path] = self._send(path, folder)
                    self.expect(path.owner)
            return FillTask(tuple(self._sent[path] for path in shared if path in self._sent))

    def _folder(self, path: HostPath) -> Path | None:
        with self._lock:
            return self._paths.get(path)

    def _send(self, path: HostPath, folder: Path) -> _Artifacts:
        files = files_of(folder)
        named = {f"hpo_spark-{path.key}-{index}": file for index, file in enumerate(files)}
        with tempfile.TemporaryDirectory() as place:
            links = []
            for name, file in named.items():
                if name not in self._names:
                    (link := Path(place) / name).symlink_to(file)
                    links.append(str(link))
            if links:
                self._spark.addArtifacts(*links, file=True)
        self._names.update(named)
        n_bytes = sum(file.stat().st_size for file in files)
        return _Artifacts(path, n_bytes, tuple((file.name, name) for name, file in named.items()))

    def _forget(self, gone: Sequence[HostPath]) -> None:
        for path in gone:
            self._sent.pop(path, None)


def send_package(spark: SparkSession) -> None:
    """Send this package to workers that do not have it."""
    folder = Path(hpo_spark.__file__).parent
    with tempfile.TemporaryDirectory() as place:
        archive = Path(place) / f"hpo_spark-{__version__}.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    # One date, so that the same code is the same artifact.
                    info = zipfile.ZipInfo(str(path.relative_to(folder.parent)))
                    file.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)
        before = list(sys.path)
        try:
            spark.addArtifacts(str(archive), pyfile=True)
        finally:
            sys.path[:] = before  # pyspark would import from it here too, and it is about to go
