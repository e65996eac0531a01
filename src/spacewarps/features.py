"""What the names of features say."""

from collections.abc import Sequence


def are_errors(names: Sequence[str]) -> list[bool]:
    """Say for each feature whether it is the error of another one, as ``z_err`` is that of ``z``."""
    known = set(names)
    return [name.endswith("_err") and name.removesuffix("_err") in known for name in names]
