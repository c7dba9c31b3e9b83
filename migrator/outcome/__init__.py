"""The result of a scan or conversion: the ledger, and a summary of each experiment."""
