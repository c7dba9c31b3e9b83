"""Names and counts what happens to the parts of an asset that is sent to a server."""

from __future__ import annotations

from dataclasses import dataclass

from migrator.issues import Code, Kind
from migrator.outcome.written import Written


@dataclass(frozen=True, slots=True)
class PartLog:
    """The result of one asset: an evaluation dataset, scorer or webhook.

    ``owner`` is how its parts are named, ``path`` where it is in the source.
    """

    written: Written
    owner: str
    path: str

    def count(self, kind: Kind, number: int = 1, *, new: bool) -> None:
        """Count what was written (``new``) or was there already."""
        self.written.count(kind, number, new=new)

    def refuse(self, kind: Kind, key: str, why: str, code: Code = Code.SERVER_REFUSED) -> None:
        """Name a part that the server does not take, or of which it has another one."""
        name = f"{self.owner}/{key}"
        message = f"{kind.value.capitalize()} {name}: {why}."
        self.written.issue(code, kind, name, message, path=self.path)

    def differs(self, kind: Kind, key: str) -> None:
        """Name a part of which the server has another value."""
        name = f"{self.owner}/{key}"
        self.written.issue(
            Code.TARGET_DIFFERS, kind, name,
            f"{kind.value.capitalize()} {name} is another one in the target.",
            path=self.path, kept="what the target has",
        )  # fmt: skip

    def leave_out(self, kind: Kind, key: str, kept: str = "") -> None:
        """Name a part that people deleted on the server, and count it as left out."""
        name = f"{self.owner}/{key}"
        self.written.left_out[kind] += 1
        self.written.issue(
            Code.TARGET_DELETED, kind, name,
            f"1 of kind {kind.value} deleted in the target since the last conversion: {name}.",
            path=self.path, kept=kept or "nothing; --restore brings it back",
        )  # fmt: skip
