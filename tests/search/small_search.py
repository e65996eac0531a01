"""Small searches, each in a process of its own: options as lines of JSON come in, what happens goes out as lines.

Everything is imported once, before the first search, so that one more search is there in a moment.
"""

import hashlib
import json
import os
import resource
import signal
import sys
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def say(*words: object) -> None:
    # In one go, since several processes speak.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def search(options: dict[str, Any]) -> dict[str, Any]:
    # The optimiser imports it when it is first used.
    import torch._dynamo  # noqa: F401

    from spacewarps.model.settings import Configuration
    from spacewarps.model.storage import pack_model
    from spacewarps.search.executors.inline import InlineExecutor
    from spacewarps.search.executors.processes import ProcessesExecutor
    from spacewarps.search.folds import Fold, deal_folds
    from spacewarps.search.history import Candidate
    from spacewarps.search.journal import FolderJournal, Journal
    from spacewarps.search.observer import SearchObserver
    from spacewarps.search.progressive import search_folds
    from spacewarps.search.settings import SearchSettings, WarmStart
    from spacewarps.search.strategies.beam import Beam
    from spacewarps.search.strategies.greedy import Greedy
    from spacewarps.search.strategies.pnas import Pnas
    from spacewarps.survey.augmentation import Augmentation
    from spacewarps.survey.dataset import Space_Galaxi
    from spacewarps.training.compute import set_up_compute
    from spacewarps.training.score import Epoch
    from spacewarps.training.settings import ComputeSettings, Optimiser

    class Speaker(SearchObserver):
        """Says each epoch, and whether it was trained now or known before."""

        last = 0

        def batch_trained(self, samples: int) -> None:
            self.last = samples

        def epoch_finished(self, candidate: Candidate, fold: int, epoch: Epoch) -> None:
            say("known" if self.last == len(folds[fold].train) else "trained", candidate.label, epoch.epoch)

    options = dict(options)
    if not options:
        return {}
    prepared, folder, workers = options.pop("prepared"), options.pop("journal", None), options.pop("workers", 0)
    compute = set_up_compute(ComputeSettings("cpu", "fp32", 1))
    checkpoints = options.pop("checkpoints", False)
    journal = FolderJournal(Path(folder), every_epoch=checkpoints) if folder else Journal()
    limit = options.pop("largest_file", None)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    strategy = {"greedy": Greedy(), "beam": Beam(2), "pnas": Pnas(2, 2)}[options.pop("strategy", "greedy")]
    augmentation = Augmentation()
    train = Space_Galaxi(prepared, split="train", augmentation=augmentation)
    folds = [Fold(train, Space_Galaxi(prepared, split="validation"))]
    if (number := options.pop("folds", 1)) > 1:
        folds = deal_folds(Space_Galaxi(prepared, split=("train", "validation")), number, augmentation, seed=1)
    names = [field.name for field in fields(SearchSettings) if field.name in options]
    settings = SearchSettings(
        warm_start=WarmStart(options.pop("mode", "previous")), **{name: options.pop(name) for name in names}
    )
    executor = ProcessesExecutor(folds, compute, workers=workers, accelerators=0) if workers else InlineExecutor(folds)
    with executor:
        result = search_folds(
            folds,
            settings,
            strategy=strategy,
            configuration=Configuration(8, 2, 0.1),
            optimiser=Optimiser(batch_size=16, learning_rate=0.01),
            compute=compute,
            executor=executor,
            journal=journal,
            observer=Speaker(),
            **options,
        )
    bits = b"".join(map(pack_model, result.models)) + repr(result.history).encode()
    found = [each for step in result.history.steps for each in (*step.candidates, *filter(None, [step.control]))]
    evaluations = [each for one in found for each in one.folds]
    return {
        "bits": hashlib.sha256(bits).hexdigest(),
        "evaluated": result.evaluated,
        "found": result.found,
        "candidates": len(found),
        "evaluations": len(evaluations),
        "epochs": sum(len(each.epochs) for each in evaluations),
        "failure": getattr(journal, "failure", None),
    }


def run(options: dict[str, Any]) -> NoReturn:
    # What this search starts is found by its session; one that hangs is no reason for tests to hang.
    os.setsid()
    signal.alarm(300)
    status = 1
    try:
        say("started", os.getpid())
        say("end", json.dumps(search(options)))
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> None:
    search({})
    say("ready")
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            run(json.loads(line))
        _, status = os.waitpid(pid, 0)
        say("gone", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
