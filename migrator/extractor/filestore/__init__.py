"""File stores: MLflow's ``mlruns`` directories, from 0.8 to the newest."""
