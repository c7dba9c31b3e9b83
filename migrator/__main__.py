"""``python -m migrator`` is the command ``mlflow-migrate``."""

from migrator.cli import main

if __name__ == "__main__":
    main(prog_name="mlflow-migrate")
