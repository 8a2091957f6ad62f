"""Prints which crates are in the program, as CycloneDX 1.5: sbom.py REPOSITORY VERSION."""

import hashlib
import json
import os
import subprocess
import sys
import tomllib
import uuid
from datetime import datetime, timezone


def host():
    words = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return next(line.split()[1] for line in words.splitlines() if line.startswith("host:"))


def metadata(repository):
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--features=otlp"]
    command += ["--filter-platform", host()]
    command += ["--manifest-path", os.path.join(repository, "Cargo.toml")]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def linked(nodes, root):
    """Packages that the program is made of: what only tests use is not among them."""
    found, left = set(), [root]
    while left:
        package = left.pop()
        if package not in found:
            found.add(package)
            left += used_by(nodes[package])
    return found


def used_by(node):
    return [
        dep["pkg"]
        for dep in node["deps"]
        if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])
    ]


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksums):
    told = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    if package["license"]:
        # The form with a slash is older than SPDX's.
        expression = " OR ".join(it.strip() for it in package["license"].split("/"))
        told["licenses"] = [{"expression": expression}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        told["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return told


def bill(repository, version):
    cargo = metadata(repository)
    with open(os.path.join(repository, "Cargo.lock"), "rb") as file:
        lock_bytes = file.read()
    lock = tomllib.loads(lock_bytes.decode())["package"]
    checksums = {(it["name"], it["version"]): it.get("checksum") for it in lock}
    packages = {it["id"]: it for it in cargo["packages"]}
    nodes = {it["id"]: it for it in cargo["resolve"]["nodes"]}
    root = cargo["resolve"]["root"]
    found = linked(nodes, root)
    made = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), timezone.utc)
    libraries = sorted((packages[it] for it in found - {root}), key=purl)
    program = {"type": "application", "bom-ref": "mediafs", "name": "mediafs", "version": version}
    refs = {it: "mediafs" if it == root else purl(packages[it]) for it in found}
    depends = [
        {"ref": refs[it], "dependsOn": sorted({refs[dep] for dep in used_by(nodes[it])} - {refs[it]})}
        for it in sorted(found, key=lambda it: refs[it])
    ]
    digest = hashlib.sha256(lock_bytes + version.encode()).digest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": uuid.UUID(bytes=digest[:16], version=4).urn,
        "version": 1,
        "metadata": {"timestamp": made.isoformat(), "component": program},
        "components": [component(it, checksums) for it in libraries],
        "dependencies": depends,
    }


if __name__ == "__main__":
    json.dump(bill(sys.argv[1], sys.argv[2]), sys.stdout, indent=1)
    print()
