"""The foreign files are the ones that the record names, and what the page is made of is what is served."""

from __future__ import annotations

import json
import re

from greenroom.runtime.http.dashboard import FILES

from .vendor import RECORD, VENDOR, WANTED, digest

STATIC = VENDOR.parent
UNSERVED = {"index.html", "vendor/vendor.json", "vendor/preact.LICENSE", "vendor/htm.LICENSE"}


def test_each_foreign_file_is_what_the_record_says() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert record.keys() == WANTED.keys() == {file.name for file in VENDOR.glob("*.js")}
    for file, (name, version, path) in WANTED.items():
        said = record[file]
        assert (said["package"], said["version"], said["path"]) == (name, version, path)
        assert digest((VENDOR / file).read_bytes()) == said["sha256"]
        assert digest((VENDOR / f"{name}.LICENSE").read_bytes()) == said["licence_sha256"]
        assert said["licence"] in ("MIT", "Apache-2.0")
        assert (VENDOR / file).read_text(encoding="utf-8").startswith(f"/*! {name} {version}, {said['licence']}")


def test_the_list_of_files_is_the_folder() -> None:
    held = {file.relative_to(STATIC).as_posix() for file in STATIC.rglob("*") if file.is_file()}
    assert set(FILES) == held - UNSERVED
    assert len(FILES) == len(set(FILES))


def test_the_whole_page_stays_small() -> None:
    size = sum((STATIC / name).stat().st_size for name in FILES)
    assert size < 150_000


def test_nothing_comes_from_elsewhere_and_no_text_becomes_markup() -> None:
    forbidden = re.compile(
        r"https?://(?!www\.w3\.org/)|innerHTML|dangerouslySetInnerHTML|insertAdjacent|document\.write|eval\("
    )
    ours = [STATIC / name for name in (*FILES, "index.html") if not name.startswith("vendor/")]
    assert [file.name for file in ours if forbidden.search(file.read_text(encoding="utf-8"))] == []


def test_every_import_of_the_page_is_served() -> None:
    for name in FILES:
        if name.endswith(".js"):
            text = (STATIC / name).read_text(encoding="utf-8")
            for target in re.findall(r"""from\s*["']([^"']+)["']""", text):
                assert (STATIC / name).parent.joinpath(target).resolve().relative_to(STATIC).as_posix() in FILES
