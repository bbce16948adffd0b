"""Buildah and Podman with a store of their own: what is built, started and mounted here ends with a ``with`` block."""

import contextlib
import json
import os
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
UID = 1000

_CONTAINERS = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=8192:8192"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/tmp"
[network]
network_backend = "cni"
network_config_dir = "{folder}/networks"
"""
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/store"
runroot = "{folder}/run"
"""


class Engine:
    """Images and containers in a folder.

    Args:
        folder: Holds all of it. What it has from before, such as layers, is used.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        for name in ("networks", "scratch"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name, text in (("containers.conf", _CONTAINERS), ("storage.conf", _STORAGE)):
            (self.folder / name).write_text(text.format(folder=self.folder))
        self.environment = {
            **os.environ,
            "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",  # podman-compose
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "TMPDIR": str(self.folder / "scratch"),  # where Buildah keeps what it downloads
            "DISABLE_HC_SYSTEMD": "true",  # tests ask for health themselves, where no systemd has timers
        }

    def run(self, *command, timeout=120, **environment):
        """Run a command, and return what it wrote; an AssertionError has the end of that where it fails."""
        done = self.attempt(*command, timeout=timeout, **environment)
        if done.returncode != 0:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}")
        return done.stdout.strip()

    def attempt(self, *command, timeout=120, **environment):
        """Run a command that may fail; errors are in its output."""
        return subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            cwd=ROOT,
            env={**self.environment, **environment},
        )

    def podman(self, *words, **options):
        return self.run("podman", *words, **options)

    def make_base(self, name):
        """Make Debian's release as an image that a Dockerfile begins with, unless it is there."""
        if self.has_image(name):
            return
        root, archive = self.folder / "root", self.folder / "base.tar"
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, root, ignore_errors=True)
            stack.callback(archive.unlink, missing_ok=True)
            self.run("debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", root, timeout=900)
            own = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
            shutil.copy(own, root / "usr/local/share/ca-certificates/own.crt")  # mirrors here may need them
            self.run("chroot", root, "update-ca-certificates", TMPDIR="/tmp")
            shutil.rmtree(root / "var/cache/apt/archives")
            self.run("tar", "--create", "--file", archive, "--directory", root, ".")
            self.podman("import", "--quiet", archive, name)

    def build(self, tag, *options, **arguments):
        """Build an image of docker/Dockerfile, with these build arguments."""
        words = ["--isolation", "chroot", "--pull=never", "--format", "docker", "--layers", *options]
        for name, value in arguments.items():
            words += ["--build-arg", f"{name}={value}"]
        self.run("buildah", "bud", *words, "--file", DOCKER / "Dockerfile", "--tag", tag, ".", timeout=1200)

    def has_image(self, name):
        return self.attempt("podman", "image", "exists", name).returncode == 0

    def start(self, image, name, *command, network, volumes=(), environment=None):
        """Start a container of this name, which is also its host's."""
        words = ["--detach", "--name", name, "--hostname", name, "--network", network]
        for outside, inside in volumes:
            words += ["--volume", f"{outside}:{inside}"]
        for key, value in (environment or {}).items():
            words += ["--env", f"{key}={value}"]
        self.podman("run", *words, image, *command)

    def python(self, container, program):
        """What a Python program writes in a container."""
        return self.podman("exec", container, "python", "-W", "ignore", "-c", program)

    def page(self, container, url):
        """A page of JSON as a container sees it."""
        return json.loads(
            self.python(container, f"import urllib.request as u; print(u.urlopen({url!r}).read().decode())")
        )

    def is_healthy(self, container):
        return self.attempt("podman", "healthcheck", "run", container).returncode == 0

    def await_health(self, *containers):
        for name in containers:
            self.wait_for(lambda name=name: self.is_healthy(name), f"health of {name}", 120, name)

    def await_end(self, container, seconds):
        """The exit code of a container that ends in time, and what it wrote."""
        self.wait_for(lambda: not self.state(container)["Running"], f"end of {container}", seconds, container)
        return self.state(container)["ExitCode"], self.logs(container)

    def state(self, container):
        return json.loads(self.podman("inspect", "--format", "json", container))[0]["State"]

    def logs(self, container):
        return self.attempt("podman", "logs", container).stdout

    def wait_for(self, condition, what, seconds, container):
        """Wait until a condition holds; it cannot come to hold any more once the container has ended."""
        deadline = time.monotonic() + seconds
        while True:
            is_over = time.monotonic() > deadline or not self.state(container)["Running"]
            if found := condition():
                return found
            if is_over:
                raise AssertionError(f"no {what} within {seconds:g} s.\n{self.logs(container)[-6000:]}")
            time.sleep(0.2)

    @contextlib.contextmanager
    def network(self, name):
        """A network; whoever is on it at the end is removed with it."""
        self.podman("network", "create", name)
        try:
            yield name
        finally:
            self.remove_containers()
            self.podman("network", "rm", "--force", name)

    def remove_containers(self):
        self.podman("rm", "--all", "--force", "--volumes", "--time", "0")

    def close(self, keep=False):
        """End and remove all that runs, and all that was built unless it is kept."""
        self.remove_containers()
        self.podman("volume", "prune", "--force")
        if keep:
            return
        self.podman("rmi", "--all", "--force", timeout=300)
        self.attempt("umount", self.folder / "store/overlay")  # as Podman has mounted it on itself
        shutil.rmtree(self.folder)
