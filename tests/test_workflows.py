"""The workflows of CI: what they would install."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

WORKFLOWS = Path(__file__).parent.parent / ".github" / "workflows"


def test_the_job_for_lower_bounds_names_a_version_of_each_package() -> None:
    """Without one it gets the oldest release that there is: nox of 2018."""
    text = (WORKFLOWS / "tests.yml").read_text(encoding="utf-8")
    (command,) = re.findall(r"run: (.*--resolution lowest-direct.*)", text)
    words = shlex.split(command)
    packages = [word for word in words[words.index("lowest-direct") + 1 :] if word[0] not in "-."]
    assert packages and all(re.search(r"[=>]=\d", package) for package in packages), packages
