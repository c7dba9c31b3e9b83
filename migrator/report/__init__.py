"""Renders results as text, JSON, HTML and CSV, and draws trees of runs."""
