"""What settings of the search, the network and the training bring, over the outer folds of a survey.

    python benchmarks/search_settings.py PREPARED KEPT --name NAME [--seeds 1 2] [--methods default ...]

PREPARED is a prepared survey (`spacewarps prepare`, or `benchmarks/sdss.py`). Each setting is a whole search and final
training; all else is as by default. Answers are kept in the folder KEPT. The table goes to docs/comparison.md, in the
place called NAME.
"""

from functools import partial

from comparison import add_name, search, write
from outer_folds import Method, as_table_of_folds, command_line, run_all, table
from spacewarps.search.settings import SearchSettings, WarmStart
from spacewarps.training.settings import FinalSettings

METHODS: dict[str, Method] = {
    "default": ("the defaults", search),
    "narrow": ("k of 8, 16, 32", partial(search, settings=SearchSettings(k_candidates=(8, 16, 32)))),
    "layers4": ("max_layers 4", partial(search, settings=SearchSettings(max_layers=4))),
    "folds3": ("three final networks", partial(search, final=FinalSettings(folds=3))),
    "kinds": ("conv, residual", partial(search, settings=SearchSettings(block_kinds=("conv", "residual")))),
    "none": ("warm_start none", partial(search, settings=SearchSettings(warm_start=WarmStart("none")))),
    "block": ("trains block", partial(search, settings=SearchSettings(trains="block"))),
    "patience1": ("patience 1", partial(search, settings=SearchSettings(patience=1))),
    "control": ("control", partial(search, settings=SearchSettings(control=True))),
    "epochs12": ("epochs_per_eval 12", partial(search, settings=SearchSettings(epochs_per_eval=12))),
    "one": (
        "one final network on train and validation",
        partial(search, final=FinalSettings(data="train_and_validation", calibration="none")),
    ),
    "average": ("average 0.99", partial(search, final=FinalSettings(average=0.99))),
    "orientations": ("orientations 1", partial(search, final=FinalSettings(orientations=1))),
}


def main() -> None:
    """Run all settings in all outer folds, and write the table."""
    options = command_line(__doc__ or "", METHODS, "default", add_name)
    records = run_all(options, "default")
    write(options.name, table(records, METHODS, options.methods, "default"), as_table_of_folds(records))


if __name__ == "__main__":
    main()
