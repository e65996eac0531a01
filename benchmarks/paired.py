"""Compare two cross-validations of one survey, sample by sample.

    python benchmarks/paired.py OLD.csv NEW.csv

Each is a `reports/crossvalidation.csv`, of the same seeds and outer folds. Prints accuracy and log loss of both, and
the paired difference with its standard error, clustered by source.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs=2, metavar="CSV")
    old, new = (read(path) for path in parser.parse_args().tables)
    if not old[["seed", "id", "fold"]].equals(new[["seed", "id", "fold"]]):
        raise SystemExit("the two tables are not of the same samples in the same folds")
    print(f"{len(old)} answers of {old['source'].nunique()} sources, {old['seed'].nunique()} seeds")
    for name in ("accuracy", "log loss"):
        before, after = (values(table, name) for table in (old, new))
        mean, error = difference(after - before, old["source"])
        print(f"{name}: {before.mean():.4f}, {after.mean():.4f}; difference {mean:+.4f} +- {error:.4f}")


def read(path: Path) -> pd.DataFrame:
    """Return the answers in ``path``, in an order of their own."""
    table = pd.read_csv(path, dtype={"id": str, "source": str, "label": str})
    return table.sort_values(["seed", "id"], ignore_index=True)


def values(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Return the loss of each answer, or whether it is right."""
    classes = [column.removeprefix("p_") for column in table.columns if column.startswith("p_")]
    labels = np.array([classes.index(label) for label in table["label"]])
    probabilities = table[[f"p_{name}" for name in classes]].to_numpy(dtype=np.float64)
    if name == "accuracy":
        return np.asarray(probabilities.argmax(axis=1) == labels, dtype=np.float64)
    of_label: NDArray[np.float64] = probabilities[np.arange(len(labels)), labels].clip(1e-12)
    return -np.log(of_label)


def difference(values: NDArray[np.float64], sources: "pd.Series[str]") -> tuple[float, float]:
    """Return the mean and its standard error, clustered by source (Liang & Zeger 1986)."""
    _, clusters = np.unique(sources.to_numpy(dtype=str), return_inverse=True)
    totals = np.bincount(clusters, weights=values - values.mean())
    count = len(totals)
    return float(values.mean()), float(np.sqrt(np.sum(totals**2) * count / (count - 1)) / len(values))


if __name__ == "__main__":
    main()
