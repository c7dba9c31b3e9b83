"""PostgreSQL and MySQL as targets: the staged rows are merged here and sent in bulk."""
