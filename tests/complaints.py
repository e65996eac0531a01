from collections.abc import Callable
from typing import ParamSpec

import pytest

Arguments = ParamSpec("Arguments")


def complaint(
    kind: type[Exception], call: Callable[Arguments, object], *arguments: Arguments.args, **options: Arguments.kwargs
) -> str:
    """Return what a call says that must end in an error of this kind: one line."""
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    told = str(caught.value)
    assert len(told.splitlines()) == 1
    return told
