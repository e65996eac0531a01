import pytest

from spacewarps.stages.arguments import in_params


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("lower `k_candidates` or `batch_size`", "lower search.k_candidates or optimiser.batch_size"),
        ("lower `threads`", "lower compute.threads"),
        ("set `columns.ra`", "set data.columns.ra"),
        ("`max_bad_fraction`=0.1", "data.max_bad_fraction=0.1"),
        ("`ray.address` is x", "search.ray.address is x"),
        ("choose another folder (`journal`)", "choose another folder (paths.journal)"),
        ("run `dvc repro` first, or `unknown`", "run `dvc repro` first, or `unknown`"),
        ("no argument here", "no argument here"),
    ],
)
def test_arguments_of_the_library_become_params(message: str, told: str) -> None:
    assert in_params(message, "train") == told


def test_the_stages_own_section_comes_first() -> None:
    assert in_params("lower `threads`", "search") == "lower search.threads"
