"""The outcome of a migration: the ledger, and the summary for each experiment."""
