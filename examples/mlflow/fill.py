"""Fills a new MLflow with experiments, runs and their files, as training jobs do. Argument: the number of runs.

Runs with MLflow's own interpreter; the server is the one that ``MLFLOW_TRACKING_URI`` names.
"""

import hashlib
import os
import random
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

START_SECONDS = 60
POINTS = 20
MODEL_BYTES = 16_384
FIRST = 1_700_000_000_000  # of the points' times, in milliseconds


def await_server(address: str) -> None:
    """Return once the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2)  # noqa: S310 - the caller's own address
            return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                sys.exit(f"MLflow at {address} does not answer after {START_SECONDS} s: see its log")
            time.sleep(0.1)


def train(client: MlflowClient, experiment: str, number: int) -> None:
    """One run with parameters, a curve, a model file with its digest as a tag, and, in every tenth run, a table."""
    chance = random.Random(number)  # noqa: S311 - made-up data, the same each time
    run = client.create_run(experiment, run_name=f"training-{number:04d}").info.run_id
    model = chance.randbytes(MODEL_BYTES).hex()
    client.log_batch(
        run,
        metrics=[
            Metric("loss", chance.random() / (step + 1), 1_700_000_000_000 + step, step) for step in range(POINTS)
        ],
        params=[Param("rate", f"{chance.random():.4f}"), Param("note", "größer als vorher")],
    )
    client.log_text(run, model, "model.txt")
    # The tag after the file: whatever a row refers to is in the bucket.
    client.log_batch(run, tags=[RunTag("sha256/model.txt", hashlib.sha256(model.encode()).hexdigest())])
    if number % 10 == 0:
        client.log_table(run, {"label": ["a", "b"], "score": [chance.random(), chance.random()]}, "scores.json")
    client.set_terminated(run)


def main(runs: int) -> None:
    """Spread the runs over three experiments."""
    await_server(os.environ["MLFLOW_TRACKING_URI"])
    client = MlflowClient()
    experiments = [client.create_experiment(name) for name in ("churn", "forecast", "ranking")]
    with ThreadPoolExecutor(4) as pool:
        for made in [pool.submit(train, client, experiments[n % len(experiments)], n) for n in range(runs)]:
            made.result()


if __name__ == "__main__":
    main(int(sys.argv[1]))
