"""mediafs as it is measured, and what its peers share with it."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import processes
from data import drop_caches

MOUNTED_WITHIN_SECONDS = 30
ENDS_WITHIN_SECONDS = 60
REGION = "us-east-1"


class NotMounted(Exception):
    pass


class Mount:
    """A daemon in the foreground on a folder of its own, with cold caches."""

    def __init__(self, command, folder):
        self.dir = folder
        self.root = os.path.join(folder, "mnt")
        self.log = os.path.join(folder, "log")
        os.makedirs(self.root, exist_ok=True)
        # The server speaks plain HTTP, and rclone 1.60 fails where this is set.
        env = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(command(self.root), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)
        deadline = time.monotonic() + MOUNTED_WITHIN_SECONDS
        while not os.path.ismount(self.root):
            if self.child.poll() is not None or time.monotonic() > deadline:
                told = open(self.log, errors="replace").read()[-2000:]
                self.end()
                raise NotMounted(told)
            time.sleep(0.02)
        drop_caches()

    def path(self, *names):
        return os.path.join(self.root, *names)

    def cpu(self):
        return processes.cpu_seconds(self.child.pid)

    def peak_mib(self):
        return processes.peak_mib(self.child.pid)

    def unmount(self):
        subprocess.run(["umount", self.root], check=False, stderr=subprocess.DEVNULL)
        try:
            self.child.wait(ENDS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.send_signal(signal.SIGKILL)
            self.child.wait()

    def end(self):
        self.unmount()
        subprocess.run(["umount", "-l", self.root], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)


class Contestant:
    """A program that mounts a bucket."""

    name = "?"
    # What a bucket has are the files themselves, under their names.
    keeps_names = True

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def version(self):
        """What it says of itself, in a line."""
        said = subprocess.run(self.version_command(), capture_output=True, text=True, check=False)
        text = said.stdout + said.stderr
        found = re.search(r"v?\d+\.\d+[\w.+-]*", text)
        return found[0] if found else "?"

    def mount(self, bucket, workload=None):
        folder = tempfile.mkdtemp(prefix="bench-")
        return Mount(lambda root: self.command(bucket, root, folder, workload), folder)


class Mediafs(Contestant):
    def __init__(self, endpoint, binary, options=()):
        super().__init__(endpoint)
        self.binary, self.options = binary, options
        self.name = os.path.basename(binary)

    def version_command(self):
        return [self.binary, "--version"]

    def command(self, bucket, root, folder, workload):
        # The cache on disk is off by default, and on in a service.
        cache = ["--cache", os.path.join(folder, "cache"), "--cache-size", "4GiB"]
        return [self.binary, "mount", "--foreground", bucket, root, "--endpoint-url", self.endpoint,
                "--force-path-style", "--region", REGION, "--spool", os.path.join(folder, "spool"),
                *(cache if workload == "cached" else []), *self.options]
