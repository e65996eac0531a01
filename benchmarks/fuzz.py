"""Gives every reader damaged files, and counts those that it neither reads nor refuses.

    python benchmarks/fuzz.py [--inputs 1000000] [--seed 1] [--kinds .fits .parquet ...] [--keep FOLDER]

A file that ends the process, takes more than 10 s or more than 1 GB, or raises what is no refusal is a fault. Its bytes
go to the folder KEEP; what is mended goes to tests/fuzz/kept, where a test reads it. Ends with status 1 if there was a
fault.
"""

import argparse
import collections
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from spacewarps.resources import available_cores
from tests.fuzz.files import damage, generator_of
from tests.fuzz.readers import SOUND, Tally, feed, limit_memory

_AT_ONCE = 500
_HEAD = ("kind", "inputs", "read", "refused", "slowest, s", "faults")


def fed(kinds: list[str], inputs: int, seed: int) -> Iterator[Tally]:
    """Yield what came of each batch; of one that ended its process, that of each file alone."""
    batches = collections.deque(
        (kind, range(start, min(start + _AT_ONCE, inputs))) for start in range(0, inputs, _AT_ONCE) for kind in kinds
    )
    while batches:
        # A new process for each few batches, so that what one has leaked is not taken for what the next one took.
        with ProcessPoolExecutor(available_cores(), initializer=limit_memory, max_tasks_per_child=100) as pool:
            running = [(batch, pool.submit(feed, batch[0], seed, batch[1])) for batch in _some(batches)]
            for (kind, numbers), future in running:
                try:
                    yield future.result()
                except BrokenProcessPool:
                    if len(numbers) == 1:
                        tally = Tally(kind)
                        tally.inputs, tally.faults = 1, [(numbers[0], "the process has ended")]
                        yield tally
                    else:
                        middle = numbers.start + len(numbers) // 2
                        batches.appendleft((kind, range(middle, numbers.stop)))
                        batches.appendleft((kind, range(numbers.start, middle)))


def _some(batches: "collections.deque[tuple[str, range]]") -> list[tuple[str, range]]:
    # One that has been divided is looked at alone, so that it is known which file it was.
    if len(batches[0][1]) < _AT_ONCE:
        return [batches.popleft()]
    return [batches.popleft() for _ in range(min(64, len(batches)))]


def main() -> int:
    """Print a table of the kinds of files, and what was wrong."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="damaged files in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=list(SOUND), default=list(SOUND))
    parser.add_argument("--keep", type=Path, help="the folder for files that were neither read nor refused")
    options = parser.parse_args()
    start, of_kind = time.monotonic(), {kind: Tally(kind) for kind in options.kinds}
    for tally in fed(options.kinds, -(-options.inputs // len(options.kinds)), options.seed):
        found = of_kind[tally.kind]
        found.inputs, found.read = found.inputs + tally.inputs, found.read + tally.read
        found.slowest = max(found.slowest, tally.slowest)
        for number, what in tally.faults:
            found.faults.append((number, what))
            print(f"{tally.kind} {number}: {what}", flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                content = damage(SOUND[tally.kind][0], generator_of(options.seed, tally.kind, number))
                name = f"{options.seed}-{number}{tally.kind.replace(' ', '-')}"
                (options.keep / name).write_bytes(content)
    print(*_HEAD, sep="  ")
    for kind, found in of_kind.items():
        refused = found.inputs - found.read - len(found.faults)
        print(kind, found.inputs, found.read, refused, f"{found.slowest:.2f}", len(found.faults), sep="  ")
    total = sum(found.inputs for found in of_kind.values())
    faults = sum(len(found.faults) for found in of_kind.values())
    print(f"{total} damaged files, {faults} faults, {time.monotonic() - start:.0f} s")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
