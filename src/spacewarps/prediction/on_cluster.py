"""Parts of a survey, each predicted by a task of a Ray cluster whose nodes see the stamps under the same path."""

import collections
import functools
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from spacewarps.clusters import Cluster, ClusterError, difference_from, reason_of_loss, this_machine
from spacewarps.errors import SpaceWarpsError
from spacewarps.prediction.classifier import Classifier
from spacewarps.prediction.parts import Job, Part, answer_part
from spacewarps.training.compute import Compute, kind_of_machine, set_up_again

# More than once, a part takes its workers with it, as where memory is short.
_MOST_LOSSES = 3
_SECONDS_A_WAIT = 5.0


class _Shared(NamedTuple):
    """What all tasks have in common: the files of the classifier, and what its answers must not differ by."""

    files: Mapping[str, bytes]
    compute: Compute
    machine: str
    images: Path


def answers_on_cluster(
    classifier: Classifier, jobs: Sequence[Job], compute: Compute, *, address: str, images: Path
) -> Iterator[Part]:
    """Yield the answers for each of ``jobs``, in order.

    A lost worker or node costs its part alone, which is asked for again.

    Args:
        classifier: is asked; its files go to the nodes.
        jobs: their places must be absolute.
        compute: where, and in which precision; every node must be of this machine's kind.
        address: as of :class:`~spacewarps.clusters.Cluster`.
        images: where the stamps are, on this machine and on each node.

    Raises:
        ClusterError: there is no cluster at that address, it has no room, or a node cannot run the project.
        SpaceWarpsError: a node does not see the stamps or is of another kind, or a part was lost again and again.
    """
    cluster = Cluster(address, threads=compute.threads, gpu_share=1.0 if compute.device.type == "cuda" else 0.0)
    try:
        cluster.connect()
        yield from _answers(
            cluster,
            jobs,
            _Shared(_files_of(classifier), compute, this_machine(kind_of_machine(compute.device)), images),
        )
    except ClusterError as error:
        raise ClusterError(f"no part can be predicted on the Ray cluster at {cluster.address}: {error}") from None
    finally:
        cluster.close()


def _answers(cluster: Cluster, jobs: Sequence[Job], shared: _Shared) -> Iterator[Part]:
    task, there = cluster.task(_answer_there), cluster.put(shared)
    at_work: dict[Any, int] = {}
    answered: dict[int, Part] = {}
    losses: collections.Counter[int] = collections.Counter()
    begun = 0
    for number in range(len(jobs)):
        while number not in answered:
            # A few parts ahead, so that what waits to be written stays small.
            while begun < min(len(jobs), number + 2 * max(1, cluster.room())):
                at_work[task.remote(jobs[begun], there)] = begun
                begun += 1
            ready, _ = ray.wait(list(at_work), timeout=_SECONDS_A_WAIT)
            if not ready:
                cluster.check_room()
            for done in ready:
                which = at_work.pop(done)
                try:
                    answered[which] = ray.get(done)
                except RayError as error:
                    reason = reason_of_loss(error)
                    losses[which] += 1
                    if losses[which] > _MOST_LOSSES:
                        raise SpaceWarpsError(
                            f"a part of the survey has lost its worker {losses[which]} times ({reason}); the same "
                            "command goes on from what is done, on nodes with more memory if that is short"
                        ) from None
                    at_work[task.remote(jobs[which], there)] = which
        yield answered.pop(number)


def _files_of(classifier: Classifier) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(classifier.folder.iterdir()) if path.is_file()}


def _answer_there(job: Job, shared: _Shared) -> Part:
    """Answer for a part in a worker."""
    if not shared.images.exists():
        raise SpaceWarpsError(
            f"{socket.gethostname()}, a node of the Ray cluster, does not see {shared.images}; put the stamps where "
            "all nodes have them under the same path"
        )
    set_up_again(shared.compute)
    if difference := difference_from(shared.machine, kind_of_machine(shared.compute.device)):
        raise SpaceWarpsError(
            f"a node of the Ray cluster may round differently than this machine: {difference}; take the node out of "
            "the cluster, or predict with portable kernels"
        )
    return answer_part(_classifier(tuple(shared.files.items())), job, shared.compute)


@functools.lru_cache(maxsize=1)
def _classifier(files: tuple[tuple[str, bytes], ...]) -> Classifier:
    """Open a classifier from its files; a worker is asked about the same one again and again."""
    with tempfile.TemporaryDirectory(prefix="spacewarps-") as folder:
        for name, content in files:
            Path(folder, name).write_bytes(content)
        return Classifier.load(Path(folder))
