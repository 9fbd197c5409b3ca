"""The dashboard's three foreign files: where they come from, and how they get here.

    python -m tests.dashboard.vendor      # with npm: fetch them again, and write vendor.json

`vendor.json` says of each file its package, version, licence and digests; `test_vendor.py` checks that what is in the
tree is what it says. The one change that is made to a file is that it imports its neighbours by their paths here: a
page whose policy forbids inline scripts can have no import map.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "runtime/http/static/vendor"
RECORD = VENDOR / "vendor.json"

WANTED = {
    "preact.js": ("preact", "11.2.0", "dist/preact.mjs"),
    "hooks.js": ("preact", "11.2.0", "hooks/dist/hooks.mjs"),
    "htm.js": ("htm", "3.1.1", "dist/htm.module.js"),
}
"""File -> its package, version, and path in it."""


def digest(body: bytes) -> str:
    """SHA-256, as hexadecimal."""
    return hashlib.sha256(body).hexdigest()


def adapted(body: bytes, head: str) -> bytes:
    """A file as it is kept here: its origin first, imports by path, no source map."""
    text = body.decode().replace('from"preact"', 'from"./preact.js"')
    lines = [line for line in text.splitlines() if not line.startswith("//# sourceMappingURL=")]
    return "\n".join((f"/*! {head} */", *lines, "")).encode()


def member(package: tarfile.TarFile, name: str) -> bytes:
    """A file of a package."""
    found = package.extractfile(f"package/{name}")
    assert found is not None, name
    return found.read()


def fetch() -> None:
    """Ask npm for the packages, and write files, licences and the record."""
    record = {}
    with tempfile.TemporaryDirectory() as folder:
        for file, (name, version, path) in WANTED.items():
            command = ["npm", "pack", "--silent", "--pack-destination", folder, f"{name}@{version}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            with tarfile.open(Path(folder) / f"{name}-{version}.tgz") as package:
                about = json.loads(member(package, "package.json"))
                licence = member(package, "LICENSE")
                original = member(package, path)
            body = adapted(original, f"{name} {version}, {about['license']}: see vendor/{name}.LICENSE")
            (VENDOR / file).write_bytes(body)
            (VENDOR / f"{name}.LICENSE").write_bytes(licence)
            record[file] = {
                "package": name,
                "version": version,
                "licence": about["license"],
                "path": path,
                "original_sha256": digest(original),
                "sha256": digest(body),
                "licence_sha256": digest(licence),
            }
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    fetch()
