"""Writes the table and the picture of ``docs/performance.md`` from the figures in a file.

    python -m bench.page

The figures are in ``docs/performance.json``, which ``bench.run --json`` adds to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.run import HOME, UNITS

FIGURES = HOME / "docs" / "performance.json"
PAGE = HOME / "docs" / "performance.md"
PICTURE = HOME / "docs" / "images" / "performance.svg"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
DRAWN = "workflows"
LINES = {"official": "mlflow migrate-filestore", "convert": "mlflow-migrate convert"}
TICKS_S = (0.1, 1, 10, 60, 600)


def table(results: Sequence[dict[str, Any]]) -> str:
    """A row for each store: times, the ratio to the official command, and memory."""
    lines = [
        "| store | files | scan | convert | official | times as fast | memory | official's |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        measured = {each["name"]: each for each in result["commands"]}
        ours, theirs = measured["convert"], measured.get("official")
        cells = [
            f"{result['shape']}, {result['size']:,} {UNITS.get(result['shape'], 'runs')}",
            f"{result['files']:,}",
            f"{measured['scan']['wall_s']:.1f} s",
            f"{ours['wall_s']:.1f} s",
            f"{theirs['wall_s']:.1f} s" if theirs else "",
            f"{theirs['wall_s'] / ours['wall_s']:.1f}" if theirs else "",
            f"{ours['peak_mib']} MiB",
            f"{theirs['peak_mib']} MiB" if theirs else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def points(results: Sequence[dict[str, Any]], command: str) -> list[tuple[int, float]]:
    """Runs and seconds of a command, for each size of the shape that is drawn."""
    found = []
    for result in results:
        if result["shape"] == DRAWN:
            seconds = [e["wall_s"] for e in result["commands"] if e["name"] == command]
            found += [(result["size"], second) for second in seconds]
    return sorted(found)


def draw(results: Sequence[dict[str, Any]], picture: Path) -> None:
    """Draw time against runs, both logarithmic; the same figures make the same file."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mlflow-migrate"  # ids that are the same each time
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for command, label in LINES.items():
        at = points(results, command)
        axes.loglog([runs for runs, _ in at], [s for _, s in at], marker="o", label=label)
    sizes = [runs for runs, _ in points(results, "convert")]
    axes.set_xticks(sizes, [f"{runs:,}" for runs in sizes])
    axes.set_yticks(TICKS_S, [f"{seconds:g} s" for seconds in TICKS_S])
    axes.minorticks_off()
    axes.set_xlabel("runs of LLM workflows")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(picture, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Write both."""
    kept = json.loads(FIGURES.read_text(encoding="utf-8"))
    about, results = kept["machine"], kept["results"]
    taken = (
        f"Taken on {about['processor']}, {about['cores']} cores, {about['system']}, Python "
        f"{about['python']}, MLflow {about['mlflow']}; the official command is that of "
        f"{about['official']}.\n"
    )
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    written = f"{before}{BEGIN}{table(results)}\n{taken}{END}{rest.split(END)[1]}"
    PAGE.write_text(written, encoding="utf-8")
    draw(results, PICTURE)


if __name__ == "__main__":
    main()
