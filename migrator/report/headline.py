"""The first line of a result: what was done, how long it took, where to, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping

from migrator.counting import counted, listed
from migrator.issues import Kind, Severity
from migrator.outcome.ledger import Ledger
from migrator.outcome.summary import Outcome
from migrator.paths import readable_path
from migrator.report.formats import size

MOST_SOURCES = 3  # named in the first line
NAMED = (Kind.RUN, Kind.TRACE, Kind.LOGGED_MODEL, Kind.REGISTERED_MODEL)
"""The kinds that the first line counts; experiments are counted where there is none of these."""


def scan_headline(outcome: Outcome) -> str:
    """``./mlruns: 82 runs in 12 experiments (914 files, 75.6 KiB); nothing is damaged.``"""
    ledger = outcome.ledger
    sources = _sources(outcome)
    experiments = counted(ledger.found[Kind.EXPERIMENT], "experiment")
    extent = _extent(ledger)
    if not sum(ledger.found.values()):
        return f"{sources}: no experiments ({extent}); nothing to convert."
    items = items_text({kind: n for kind, n in ledger.found.items() if kind is not Kind.EXPERIMENT})
    return f"{sources}: {items or 'no runs'} in {experiments} ({extent}); {damage(ledger)}."


def _sources(outcome: Outcome) -> str:
    """The sources by name, or their number where they are too many for a line."""
    if len(outcome.sources) > MOST_SOURCES:
        return counted(len(outcome.sources), "store")
    return ", ".join(map(readable_path, outcome.sources))


def _extent(ledger: Ledger) -> str:
    """How much there is: the files of file stores, or rows where the sources are databases."""
    rows = sum(ledger.found.values())
    if ledger.files or not rows:
        return f"{counted(ledger.files, 'file')}, {size(ledger.size_bytes)}"
    extent = counted(rows, "row")
    return f"{extent}, {size(ledger.size_bytes)}" if ledger.size_bytes else extent


def convert_headline(outcome: Outcome) -> str:
    """``Converted 82 runs and rebuilt 33 traces in 0.5 s → mlflow.db; nothing was rejected.``"""
    ledger = outcome.ledger
    sources = _sources(outcome)
    if not outcome.is_read:
        return (
            f"Nothing new; database unchanged: by their sizes and times, no file of {sources} has "
            "changed since the last conversion (--check-all reads them)."
        )
    if not sum(ledger.found.values()):
        return f"Nothing to convert: no experiments in {sources}."
    rebuilt = new_rebuilt(outcome)[Kind.TRACE]
    converted = items_text(ledger.converted)
    if not (converted or rebuilt) and _is_repetition(ledger):
        nothing = "Nothing new; database unchanged" if outcome.unchanged else "Nothing to do"
        text = f"{nothing}: {_there(ledger)} in {outcome.target} already"
        return (
            f"{text}; {losses(ledger)}." if ledger.issues_count(Severity.REJECTED) else f"{text}."
        )
    done = _done(converted, rebuilt, outcome.dry_run)
    done += f" in {outcome.seconds:.1f} s → {outcome.target}; {losses(ledger)}."
    if outcome.dry_run:
        done += " Nothing was written (--dry-run)."
    return done


def _done(converted: str, rebuilt: int, is_dry_run: bool) -> str:
    """``Converted 82 runs and rebuilt 33 traces``, or the part of it that happened."""
    convert, rebuild = ("convert", "rebuild") if is_dry_run else ("converted", "rebuilt")
    traces = f"{rebuild} {counted(rebuilt, 'trace')}"
    if not rebuilt:
        text = f"{convert} {converted or 'no runs'}"
    elif not converted:
        text = traces
    else:
        comma = "," if " and " in converted else ""
        text = f"{convert} {converted}{comma} and {traces}"
    return f"Would {text}" if is_dry_run else text.capitalize()


def new_rebuilt(outcome: Outcome) -> Mapping[Kind, int]:
    """Counts of the traces, spans, … made from runs that are new in the target."""
    return outcome.ledger.rebuilt if outcome.dry_run else outcome.ledger.rebuilt_new


def losses(ledger: Ledger) -> str:
    """``nothing was rejected``, or the number of rejected and of degraded items."""
    rejected = ledger.issues_count(Severity.REJECTED)
    degraded = ledger.issues_count(Severity.DEGRADED)
    text = "nothing was rejected"
    if rejected:
        text = counted(rejected, "item was rejected", "items were rejected")
    if degraded:
        text += f", {degraded:,} degraded"
    return text


def has_damage(ledger: Ledger) -> bool:
    """True if something would be rejected or degraded."""
    return ledger.issues_count(Severity.REJECTED) + ledger.issues_count(Severity.DEGRADED) > 0


def damage(ledger: Ledger) -> str:
    """The same for a scan: ``nothing is damaged``, or what ``convert`` would do to items."""
    rejected = ledger.issues_count(Severity.REJECTED)
    degraded = ledger.issues_count(Severity.DEGRADED)
    if not rejected and not degraded:
        return "nothing is damaged"
    if not rejected:
        return f"{counted(degraded, 'item')} would be degraded"
    text = f"{counted(rejected, 'item')} would be rejected"
    return f"{text}, {degraded:,} degraded" if degraded else text


def _is_repetition(ledger: Ledger) -> bool:
    """True if everything that can be converted is in the target already."""
    return bool(sum(ledger.already_there.values())) and not sum(ledger.converted.values())


def _there(ledger: Ledger) -> str:
    items = _counted_items(ledger.already_there)
    rebuilt = ledger.rebuilt_already_there[Kind.TRACE]
    if rebuilt:
        items.append(counted(rebuilt, "rebuilt trace"))
    only_one = rebuilt + sum(ledger.already_there[kind] for kind in NAMED) == 1
    return f"{listed(items)} {'is' if only_one else 'are'}"


def items_text(counts: Mapping[Kind, int]) -> str:
    """``82 runs, 3 traces and 1 logged model``; "" where there is nothing."""
    return listed(_counted_items(counts))


def _counted_items(counts: Mapping[Kind, int]) -> list[str]:
    found = [counted(counts.get(kind, 0), kind.value) for kind in NAMED if counts.get(kind, 0)]
    if not found and counts.get(Kind.EXPERIMENT, 0):
        found = [counted(counts[Kind.EXPERIMENT], "experiment")]
    return found
