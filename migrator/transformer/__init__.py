"""Turns records into plans: pure functions, no files, no database."""
