"""What MLflow is told."""

import os

# Read by MLflow when it is first imported, which only modules of this package do.
# It reports its use to its makers unless told not to; a survey's business stays at home.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# What MLflow says of its own doings would drown what the stage says.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# MLflow would name the page of every run that ends on a server, by an address that may hold a password; the project
# names one page, where the work ends.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
# Notes wait in the spool for a server that does not answer. MLflow itself would repeat a request whose answer was lost,
# and make a run twice.
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
