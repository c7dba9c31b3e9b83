"""Reads evaluation datasets, scorers and webhooks of a server into a mirror (MLflow 3.4 and later).

Each is listed by the API, and every listed thing is a row, whether it can be read later or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from migrator.extractor.rest import rows
from migrator.extractor.rest.client import API, API_3, Client, Refused
from migrator.extractor.rest.mirror import Mirror
from migrator.issues import Code, Issue

Json = Mapping[str, Any]

_PAGE = 1000  # what MLflow allows
_FORBIDDEN = 403


class AssetReader:
    """Reads the assets of one server once: call ``read``. Raises SourceError."""

    def __init__(self, client: Client, mirror: Mirror) -> None:
        self.issues: list[Issue] = []
        self._client = client
        self._mirror = mirror

    def read(self, experiments: Sequence[str]) -> None:
        """Read datasets, webhooks, and the scorers of experiments that are not deleted."""
        self._evaluation_datasets()
        self._scorers(experiments)
        self._webhooks()

    def _pages(self, name: str, method: str, path: str, body: Json) -> Iterator[Sequence[Json]]:
        """Pages of what an older server does not have, or shows to some users only."""
        try:
            yield from self._client.pages(name, method, path, body)
        except Refused as error:
            if error.status == _FORBIDDEN:
                message = f"This login may not list {name}: {error}."
                self.issues.append(Issue(Code.SERVER_WITHHOLDS, self._client.shown, message))
            elif not error.is_unknown:
                raise self._client.refused(path, error) from error

    # ------------------------------------------------------------------ evaluation datasets

    def _evaluation_datasets(self) -> None:
        path = f"{API_3}/datasets/search"
        for page in self._pages("datasets", "POST", path, {"max_results": _PAGE}):
            new = []
            for given in page:
                if self._mirror.add_entity("evaluation_datasets", rows.evaluation_dataset(given)):
                    self._mirror.add("evaluation_dataset_tags", rows.evaluation_tags(given))
                    new.append(str(given.get("dataset_id")))
            for dataset_id, experiment_ids in self._client.each(self._links, new):
                links = rows.evaluation_links(dataset_id, experiment_ids)
                self._mirror.add("entity_associations", links)
            for dataset_id in new:
                self._records(dataset_id)

    def _links(self, dataset_id: str) -> tuple[str, Any]:
        """A dataset, and the experiments that it is linked to."""
        path = f"{API_3}/datasets/{dataset_id}/experiment-ids"
        try:
            return dataset_id, self._client.ask("GET", path).get("experiment_ids")
        except Refused as error:
            if error.is_unknown:  # deleted since
                return dataset_id, []
            raise self._client.refused(path, error) from error

    def _records(self, dataset_id: str) -> None:
        path = f"{API_3}/datasets/{dataset_id}/records"
        for page in self._pages("records", "GET", path, {"max_results": _PAGE}):
            found = [rows.evaluation_record(given, dataset_id) for given in page]
            self._mirror.add("evaluation_dataset_records", found)

    # ------------------------------------------------------------------------------ scorers

    def _scorers(self, experiments: Sequence[str]) -> None:
        named: list[tuple[str, Json]] = []
        for found in self._client.each(self._scorers_of, experiments):
            named += found
        for experiment_id, scorer in named:
            self._mirror.add_entity("scorers", rows.scorer(scorer, experiment_id))
        for versions in self._client.each(self._versions_of, named):
            self._mirror.add("scorer_versions", versions)

    def _scorers_of(self, experiment_id: str) -> list[tuple[str, Json]]:
        """The scorers of an experiment; each is given as its last version."""
        path, body = f"{API_3}/scorers/list", {"experiment_id": experiment_id}
        found = []
        for page in self._pages("scorers", "GET", path, body):
            found += [(experiment_id, each) for each in page]
        return found

    def _versions_of(self, named: tuple[str, Json]) -> list[dict[str, Any]]:
        experiment_id, scorer = named
        path = f"{API_3}/scorers/versions"
        body = {"experiment_id": experiment_id, "name": scorer.get("scorer_name")}
        found = []
        for page in self._pages("scorers", "GET", path, body):
            found += [rows.scorer_version(each, experiment_id) for each in page]
        return found

    # ----------------------------------------------------------------------------- webhooks

    def _webhooks(self) -> None:
        path = f"{API}/webhooks"
        for page in self._pages("webhooks", "GET", path, {"max_results": _PAGE}):
            for given in page:
                if self._mirror.add_entity("webhooks", rows.webhook(given)):
                    self._mirror.add("webhook_events", rows.webhook_events(given))
