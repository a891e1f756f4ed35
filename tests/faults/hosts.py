"""Several machines out of one: namespaces of Linux with a network, files, processes and a name of their own."""

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

_numbers = itertools.count(os.getpid() % 10_000 * 10)

#: What a machine does before its program: its own temporary files, and nothing at the paths that are to be hidden.
BOOT = """
set -e
hostname "$NAME"
if [ -z "$SHARES_FILES" ]; then
  mount --make-rprivate /
  mount -t tmpfs none /var/tmp
  mount -t tmpfs none /dev/shm
  export TMPDIR=/var/tmp
  printf '%s' "$HIDDEN" | while IFS= read -r path; do mkdir -p "$path"; mount -t tmpfs none "$path"; done
fi
eval "$SETUP"
exec "$@"
"""

#: Starts a program again when it ends, as service managers do: workers end themselves when nobody hears them.
AGAIN = ["sh", "-c", 'while :; do "$@"; sleep 1; done', "sh"]


def call(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=20)


class Network:
    """A network, and the machines in it; a context manager."""

    def __init__(self):
        self.number = next(_numbers)
        self.switch = f"mm{self.number}lan"
        self.hosts = []

    def __enter__(self):
        if sys.platform != "linux" or not (shutil.which("ip") and shutil.which("unshare")):
            pytest.skip("needs the namespaces of Linux")
        tried = call("ip", "netns", "add", self.switch)
        if tried.returncode or call("unshare", "--mount", "--pid", "--uts", "--fork", "true").returncode:
            call("ip", "netns", "del", self.switch)
            pytest.skip(f"no namespaces can be made here: {tried.stderr.strip()}")
        self._set(self.switch, "add", "br0", "type", "bridge")
        self._set(self.switch, "set", "br0", "up")
        return self

    def __exit__(self, *exception):
        for host in self.hosts:
            host.kill()
        for name in [self.switch, *(host.space for host in self.hosts)]:
            call("ip", "netns", "del", name)

    def _set(self, space, *arguments):
        done = call("ip", "-n", space, "link", *arguments)
        assert done.returncode == 0, done.stderr

    def add(self, name):
        host = Host(self, name, len(self.hosts) + 1)
        self.hosts.append(host)
        return host


class Host:
    """A machine.

    Attributes:
        name: as its programs see it.
        address: its IP address.
    """

    def __init__(self, network, name, number):
        self.network, self.name, self.address = network, name, f"10.9.0.{number}"
        self.space, self.port = f"mm{network.number}h{number}", f"p{number}"
        self.processes = []
        assert call("ip", "netns", "add", self.space).returncode == 0
        network._set(network.switch, "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        network._set(network.switch, "set", self.port, "master", "br0", "up")
        call("ip", "-n", self.space, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            network._set(self.space, "set", device, "up")

    def start(self, arguments, folder, hidden=(), setup="", shares_files=False, **environment):
        """Start a program; its process is the whole machine if it does not share the files."""
        own = [] if shares_files else ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        known = {name: value for name, value in os.environ.items() if not name.startswith("MILL")}
        about = {"NAME": self.name, "SETUP": setup, "HIDDEN": "".join(f"{path}\n" for path in hidden)}
        with Path(folder, f"{self.name}.log").open("ab") as log:
            process = psutil.Popen(
                [*self.prefix(*own), "sh", "-c", BOOT, "sh", *arguments],
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**known, **about, "SHARES_FILES": "1" if shares_files else "", **environment},
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def prefix(self, *spaces):
        """What starts a program in the network of this machine."""
        return ["ip", "netns", "exec", self.space, "unshare", "--uts", *spaces]

    def plug(self, connected):
        """Connect the machine to the network, or not."""
        self.network._set(self.network.switch, "set", self.port, "up" if connected else "down")

    def kill(self):
        """End all of it at once, as when it is unplugged."""
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                for each in [process, *process.children(recursive=True)]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()
                process.wait(10)
        self.processes = []


class DaskHosts:
    """A scheduler on one machine, workers on others."""

    def __init__(self, network, folder):
        self.network, self.folder = network, folder
        self.head = network.add("head")
        self.driver = network.add("driver")
        self.address = f"tcp://{self.head.address}:8786"
        self.start_head()

    def start_head(self):
        where = ["--host", self.head.address, "--port", "8786", "--no-dashboard"]
        self._run(self.head, "distributed.cli.dask_scheduler", *where)

    def add_worker(self, name="", host=None, **how):
        host = host or self.network.add(name)
        options = ["--host", host.address, "--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
        self._run(host, "distributed.cli.dask_worker", self.address, *options, "--local-directory", "/var/tmp", **how)
        return host

    def _run(self, host, module, *arguments, **how):
        host.start([*AGAIN, sys.executable, "-W", "ignore", "-m", module, *arguments], self.folder, **how)

    def end(self):
        pass


class RayHosts:
    """A head without cores, which the driver runs on, and nodes on other machines."""

    def __init__(self, network, folder):
        self.network, self.folder = network, folder
        self.head = self.driver = network.add("head")
        self.address = f"{self.head.address}:6379"
        # Ray's sockets have no room for long names.
        self.temporary = tempfile.TemporaryDirectory(prefix="mm-ray-", ignore_cleanup_errors=True)
        self.start_head()

    def start_head(self):
        where = [f"--node-ip-address={self.head.address}", "--port=6379", "--include-dashboard=false"]
        self._run(self.head, "--head", "--num-cpus=0", f"--temp-dir={self.temporary.name}", *where, shares_files=True)

    def add_worker(self, name="", host=None, hidden=(), **how):
        host = host or self.network.add(name)
        hidden = [self.temporary.name, *hidden]
        where = [f"--address={self.address}", f"--node-ip-address={host.address}", "--num-cpus=1"]
        self._run(host, *where, hidden=hidden, **how)
        return host

    def _run(self, host, *arguments, **how):
        code = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
        start = [*AGAIN, sys.executable, "-W", "ignore", "-c", code, "start", "--block", *arguments]
        host.start(start, self.folder, RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0", **how)

    def end(self):
        self.temporary.cleanup()


KINDS = {"dask": DaskHosts, "ray": RayHosts}
