"""Writes evaluation datasets, scorers and webhooks, and remembers them in their experiments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from migrator.issues import Kind
from migrator.loader.rest.connection import Connection, Refused
from migrator.loader.rest.evaluation import DatasetJob, EvaluationDatasets
from migrator.loader.rest.experiment_index import TargetExperiment
from migrator.loader.rest.parts import PartLog
from migrator.loader.rest.scorers import ScorerJob, Scorers
from migrator.loader.rest.seen import DeletedByPeople
from migrator.loader.rest.webhooks import WebhookWriter
from migrator.model import Asset, EvaluationDatasetRecord, ScorerRecord, WebhookRecord
from migrator.outcome.ledger import counts_of
from migrator.outcome.written import Written


class AssetPublisher:
    """Writes the assets of one conversion. Methods raise TargetError.

    ``ids`` are those of the server by those of the source.
    """

    def __init__(
        self,
        server: Connection,
        experiments: Mapping[int, TargetExperiment],
        result: Written,
        gone: DeletedByPeople,
        *,
        restore: bool,
    ) -> None:
        """``experiments`` are those written into, by the ids of plans; ``result`` gets the counts.

        ``gone`` gets what people deleted.
        """
        self.ids: defaultdict[Kind, dict[str, str]] = defaultdict(dict)
        self._server = server
        self._experiments = experiments
        self._result = result
        self._gone = gone
        self._restore = restore
        self._datasets = EvaluationDatasets(server)
        self._scorers = Scorers(server)
        self._webhooks: list[WebhookRecord] = []

    def add(self, record: Asset, experiment_id: int | None) -> None:
        """Write an evaluation dataset or scorer; keep a webhook for the end."""
        try:
            if isinstance(record, WebhookRecord):
                self._webhooks.append(record)
            elif isinstance(record, EvaluationDatasetRecord):
                self._add_dataset(record)
            elif isinstance(record, ScorerRecord) and experiment_id is not None:
                self._add_scorer(record, self._experiments[experiment_id])
        except Refused as error:
            self._refuse(record, error)

    def add_webhooks(self) -> None:
        """Make the webhooks: from then on the server calls them for whatever is done."""
        if not self._webhooks:
            return
        writer = WebhookWriter(self._server)
        for record in self._webhooks:
            log = PartLog(Written(), record.name, record.path)
            try:
                new_id = writer.write(record, log)
            except Refused as error:
                self._refuse(record, error)
                continue
            self._result.add(log.written)
            if new_id is not None:
                self._server.count_written("webhooks")
                self.ids[Kind.WEBHOOK][record.webhook_id] = new_id

    def _add_dataset(self, record: EvaluationDatasetRecord) -> None:
        kind, dataset_id = Kind.EVALUATION_DATASET, record.dataset_id
        experiments = {
            link: self._experiments[int(link.target_id)]
            for link in record.links
            if link.kind == "experiment"
        }
        there = self._datasets.find(dataset_id)
        if there is None:
            for experiment in experiments.values():
                if self._gone.has(experiment.seen, kind, dataset_id):
                    self._result.left_out.update(counts_of(record))
                    return
        log = PartLog(Written(), record.name, record.path)
        job = DatasetJob(self._server, record, experiments, log, self._restore)
        self.ids[kind][dataset_id] = job.write(there)
        self._result.add(log.written)
        self._server.count_written("evaluation datasets")
        for experiment in experiments.values():
            experiment.seen.add(kind, dataset_id)

    def _add_scorer(self, record: ScorerRecord, experiment: TargetExperiment) -> None:
        kind, scorer_id = Kind.SCORER, record.scorer_id
        log = PartLog(Written(), record.name, record.path)
        job = ScorerJob(self._server, record, experiment, log, self._restore)
        if job.is_hidden:
            job.count_there()
            self._result.add(log.written)
            return
        experiment.open(self._server)
        there = self._scorers.versions(record.name, experiment.experiment_id)
        if not there and self._gone.has(experiment.seen, kind, scorer_id):
            self._result.left_out.update(counts_of(record))
            return
        new_id = job.write(there)
        self._result.add(log.written)
        if new_id is not None:
            self.ids[kind][scorer_id] = new_id
            self._server.count_written("scorers")
            experiment.seen.add(kind, scorer_id)

    def _refuse(self, record: Asset, error: Refused) -> None:
        kind = next(iter(counts_of(record)))
        message = f"{kind.value.capitalize()} {record.name}: {error}."
        parts = counts_of(record)
        self._result.reject_parts(error.code, record.name, message, parts, record.path)
