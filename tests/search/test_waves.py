from spacewarps.model.settings import BlockSpec
from spacewarps.search.history import Candidate
from spacewarps.search.waves import one_of_each_family


def candidate(k: int, kind: str = "conv", kernel_size: int = 3, trunk: int = 0) -> Candidate:
    return Candidate(1, BlockSpec(k, kind, kernel_size), seed=k, trunk=trunk)


def test_a_wave_holds_one_of_each_family_in_ascending_k() -> None:
    wide, narrow, middle = candidate(16), candidate(4), candidate(8)
    residual, large, other_trunk = candidate(32, "residual"), candidate(4, kernel_size=5), candidate(4, trunk=1)
    waves = one_of_each_family([wide, residual, narrow, large, other_trunk, middle])
    assert [set(wave) for wave in waves] == [{narrow, residual, large, other_trunk}, {middle}, {wide}]
    assert sum(map(len, waves)) == 6
