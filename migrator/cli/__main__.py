"""``python -m migrator.cli`` is the command ``mlflow-migrate``."""

from migrator.cli import main

if __name__ == "__main__":
    main()
