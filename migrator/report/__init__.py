"""The ledger of a migration and its renderings."""
