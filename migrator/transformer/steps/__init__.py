"""Steps that the files of a run record: calls that never had a run of their own."""
