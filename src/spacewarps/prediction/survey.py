"""A survey whose classes nobody knows: its samples found, and predicted part by part, here or in several processes."""

import hashlib
import json
import multiprocessing
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from spacewarps.errors import SpaceWarpsError, SurveyError, extra_missing
from spacewarps.files import outputs
from spacewarps.interrupts import children_spared
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.parts import Job, Part, answer_part
from spacewarps.prediction.stamps import stamps_of
from spacewarps.reading import sha256_of
from spacewarps.settings import as_values
from spacewarps.survey.audit import Audit
from spacewarps.survey.columns import Columns
from spacewarps.survey.read import ProgressBar, Survey, read_survey
from spacewarps.survey.settings import SurveySettings
from spacewarps.survey.stamp_arrays import holds_an_array
from spacewarps.training.compute import Compute, set_up_again

# Some megabytes of stamps in each process, and seconds of work to lose.
_SAMPLES_IN_A_PART = 512
_PART_FILES = "part-*.npz"


def read_unlabelled(
    catalog: Path, images: Path, *, id_column: str, classifier: Classifier, audit: Audit, progress_bar: ProgressBar
) -> Survey:
    """Find the rows of a catalogue that ``classifier`` can be asked for, and their stamps.

    Args:
        catalog: one catalogue, or a folder of them; labels are not needed, and positions only where stamps are cut.
        images: the folder of stamps, the file with all of them, or the images to cut them from.
        id_column: the catalogue's name for the id.
        classifier: whose features and stamps are wanted.
        audit: what is left out, and why, goes there.
        progress_bar: opens a display for a piece of work, given its name and size.

    Raises:
        SurveyError: there is no row that can be used.
    """
    stamps = classifier.reference.stamps
    if not holds_an_array(images):
        # Whatever array the network learned from, these stamps are no rows of one.
        stamps = replace(stamps, stamp_index=None)
    settings = SurveySettings(
        columns=Columns(id_column, None, *(classifier.reference.positions or (None, None))),
        features=classifier.network.inputs.features,
        missing_codes=classifier.reference.missing_codes,
        # Each row that cannot be used is told, and the others are what was asked for.
        max_bad_fraction=1.0,
        **as_values(stamps),
    )
    survey = read_survey(catalog, images, settings, audit, progress_bar, shape=stamps_of(classifier))
    audit.notes.clear()
    return survey


def predict_parts(
    classifier: Classifier,
    survey: Survey,
    *,
    compute: Compute,
    workers: int,
    cluster: tuple[str, Path] | None,
    partial: Path,
    progress: Callable[[int], None],
) -> Iterator[Part]:
    """Yield what ``classifier`` answers for each part of ``survey``, in order.

    Which samples are a part depends on nothing else, so the answers are the same for any number of ``workers``. Each
    part is kept in the folder ``partial``; what stands there of the same work is not done again.

    Args:
        classifier: is asked.
        survey: its rows and stamps.
        compute: where, and in which precision.
        workers: how many processes; with one, this one.
        cluster: in place of processes here, the address of a Ray cluster, and the absolute path of the stamps, which
            each of its nodes must see.
        partial: a folder for what is done; of other work, it is emptied.
        progress: called with a number of samples that are done.

    Raises:
        SpaceWarpsError: a process was lost, or the cluster cannot be used.
    """
    names = list(classifier.network.inputs.features)
    jobs = [
        Job(survey.places[number * _SAMPLES_IN_A_PART :][: len(rows)], rows[names])
        for number, rows in enumerate(parts_of(survey.rows))
    ]
    _begin(partial, _fingerprint(classifier, survey, compute))
    places = [partial / f"part-{number:07}.npz" for number in range(len(jobs))]
    known = [place.exists() for place in places]
    todo = [job for job, is_known in zip(jobs, known, strict=True) if not is_known]
    if cluster is None:
        answers = _answers(classifier, todo, compute, min(workers, len(todo)))
    else:
        try:
            from spacewarps.prediction.on_cluster import answers_on_cluster
        except ModuleNotFoundError as error:
            raise SpaceWarpsError(f"a Ray cluster is asked for, but {extra_missing('ray', str(error.name))}") from None
        answers = answers_on_cluster(classifier, todo, compute, address=cluster[0], images=cluster[1])
    for job, place, is_known in zip(jobs, places, known, strict=True):
        part = _read(place, job, classifier) if is_known else None
        if part is None:
            part = answer_part(classifier, job, compute) if is_known else next(answers)
            _write(place, part)
        progress(len(job.places))
        yield part


def parts_of(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the rows of each part."""
    for start in range(0, len(rows), _SAMPLES_IN_A_PART):
        yield rows.iloc[start : start + _SAMPLES_IN_A_PART]


def _answers(classifier: Classifier, jobs: Sequence[Job], compute: Compute, workers: int) -> Iterator[Part]:
    if workers <= 1:
        yield from (answer_part(classifier, job, compute) for job in jobs)
        return
    # Spawned, since a forked child of a process that has started torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(classifier.folder, compute))
    try:
        # A few parts ahead, so that what waits to be written stays small.
        waiting = []
        for job in jobs:
            with children_spared():
                waiting.append(pool.submit(_answer_there, job))
            if len(waiting) > 2 * workers:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
    except BrokenProcessPool:
        raise SpaceWarpsError(
            "a process that was at work has ended (killed, perhaps for want of memory); the same command goes on from "
            "what is done, with fewer `--workers` if memory is short"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


# Of a worker process.
_here: tuple[Classifier, Compute] | None = None


def _start(folder: Path, compute: Compute) -> None:
    global _here
    set_up_again(compute)
    _here = (Classifier.load(folder), compute)


def _answer_there(job: Job) -> Part:
    assert _here is not None
    classifier, compute = _here
    return answer_part(classifier, job, compute)


def _fingerprint(classifier: Classifier, survey: Survey, compute: Compute) -> str:
    """Return a hash of all that the answers depend on."""
    found = hashlib.sha256()
    for name in sorted(path.name for path in classifier.folder.iterdir() if path.is_file()):
        found.update(f"{name} {sha256_of(classifier.folder / name)}\n".encode())
    found.update(json.dumps([str(value) for value in asdict(compute).values()]).encode())
    found.update(json.dumps([_SAMPLES_IN_A_PART, list(survey.rows["id"]), survey.digests]).encode())
    found.update(survey.rows[list(classifier.network.inputs.features)].to_numpy(np.float64).tobytes())
    if classifier.reference.positions is not None:
        found.update(survey.rows[["ra", "dec"]].to_numpy(np.float64).tobytes())
    return found.hexdigest()


def _begin(partial: Path, fingerprint: str) -> None:
    """Make the folder, empty unless it holds parts of the same work."""
    mark = partial / "of.txt"
    with suppress(OSError, ValueError):
        if mark.read_text(encoding="utf-8") == fingerprint:
            return
    if partial.exists():
        strange = [path.name for path in partial.iterdir() if path.name != mark.name and not path.match(_PART_FILES)]
        if strange:
            raise SurveyError(
                f"{partial}: holds {min(strange)!r:.100}, which was not written here; move it, or name another output"
            )
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    mark.write_text(fingerprint, encoding="utf-8")


def _write(place: Path, part: Part) -> None:
    with outputs() as out, out.file(place).open("wb") as file:
        np.savez(file, faults=part.faults, probabilities=part.probabilities, levels=part.levels)


def _read(place: Path, job: Job, classifier: Classifier) -> Part | None:
    """Return a part that was kept; nothing if it is damaged."""
    try:
        with np.load(place, allow_pickle=False) as kept:
            part = Part(kept["faults"], kept["probabilities"], kept["levels"])
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return None
    sound = int((part.faults == "").sum())
    fits = (
        part.faults.shape == (len(job.places),)
        and part.probabilities.shape == (sound, len(classifier.network.inputs.classes))
        and part.levels.shape == (sound, 2)
    )
    return part if fits else None
