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

from outer_folds import losses_of
from spacewarps.formulas import table_from_text
from spacewarps.search.clustered import estimate


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs=2, metavar="CSV")
    old, new = (read(path) for path in parser.parse_args().tables)
    if not old[["seed", "id", "fold"]].equals(new[["seed", "id", "fold"]]):
        raise SystemExit("the two tables are not of the same samples in the same folds")
    print(f"{len(old)} answers of {old['source'].nunique()} sources, {old['seed'].nunique()} seeds")
    before, after, sources = scores_of(old), scores_of(new), old["source"].to_numpy(dtype=str)
    for name in before:
        found = estimate(after[name] - before[name], sources, np.zeros(len(sources), dtype=np.int64))
        print(
            f"{name}: {before[name].mean():.4f}, {after[name].mean():.4f}; "
            f"difference {found.mean:+.4f} +- {found.error:.4f}"
        )


def read(path: Path) -> pd.DataFrame:
    """Return the answers in ``path``, in an order of their own."""
    table = table_from_text(pd.read_csv(path, dtype={"id": str, "source": str, "label": str}))
    return table.sort_values(["seed", "id"], ignore_index=True)


def scores_of(table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return whether each answer is right, and its loss."""
    classes = [column.removeprefix("p_") for column in table.columns if column.startswith("p_")]
    labels = np.array([classes.index(label) for label in table["label"]])
    losses, right = losses_of(table[[f"p_{name}" for name in classes]].to_numpy(dtype=np.float64), labels)
    return {"accuracy": right, "log loss": losses}


if __name__ == "__main__":
    main()
