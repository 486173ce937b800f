"""tests/README.md names every folder of tests, and no module that is not there."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TEXT = (TESTS / "README.md").read_text()
NAMES = re.findall(r"`([^`\n]+)`", TEXT)


def test_every_folder_is_described() -> None:
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    assert folders - {"rig"} - set(NAMES) == set()


def test_every_module_that_is_named_is_there() -> None:
    before, rig = TEXT.split("## The rig")
    for text, folder in ((before, TESTS), (rig, TESTS / "rig")):
        for name in re.findall(r"`([\w/]+\.py)`", text):
            assert (folder / name).is_file(), name


def test_every_module_of_the_rig_is_named() -> None:
    modules = {path.name for path in (TESTS / "rig").glob("*.py") if not path.name.startswith("test_")}
    assert modules - set(NAMES) == set()
