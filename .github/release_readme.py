"""Fill the repository's address into README.md and pyproject.toml, before a release is built.

PyPI shows README.md without the repository around it, so links to files must be whole there. The
address is known only where the release is made, and is not kept in the repository:

    python .github/release_readme.py https://host/owner/name v1.0.0

It changes both files of the checkout that it is run in. Nobody commits the result.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\((?!https?://|#)([^)\s]+)\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\((?!https?://)([^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
GENERATOR = re.compile(r"<!-- \[\[\[cog\n.*?\n\]\]\] -->\n|<!-- \[\[\[end\]\]\] -->\n", re.DOTALL)


def with_whole_links(text: str, address: str, tag: str) -> str:
    """The README with links that lead to the repository at ``tag``, without its generators.

    Code blocks stay as they are.
    """
    parts = CODE.split(GENERATOR.sub("", text))
    for at in range(0, len(parts), 2):  # the odd ones are code
        pictures = IMAGE.sub(rf"![\1]({address}/raw/{tag}/\2)", parts[at])
        parts[at] = LINK.sub(rf"]({address}/blob/{tag}/\1)", pictures)
    return "".join(parts)


def urls(address: str, tag: str) -> str:
    """The table of project URLs, which PyPI shows beside the README."""
    return (
        "[project.urls]\n"
        f'Repository = "{address}"\n'
        f'Documentation = "{address}/blob/{tag}/docs/index.md"\n'
        f'Changelog = "{address}/blob/{tag}/docs/CHANGELOG.md"\n'
        f'Issues = "{address}/issues"\n\n'
    )


def main() -> None:
    """Change the two files."""
    address, tag = sys.argv[1].rstrip("/"), sys.argv[2]
    readme, project = ROOT / "README.md", ROOT / "pyproject.toml"
    text = with_whole_links(readme.read_text(encoding="utf-8"), address, tag)
    readme.write_text(text, encoding="utf-8")
    settings = project.read_text(encoding="utf-8")
    scripts = "[project.scripts]\n"
    changed = settings.replace(scripts, urls(address, tag) + scripts, 1)
    project.write_text(changed, encoding="utf-8")


if __name__ == "__main__":
    main()
