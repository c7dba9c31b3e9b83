"""SQLite as the target, and the staging file that every database target is filled from."""
