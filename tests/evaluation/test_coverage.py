import numpy as np
import pytest

from spacewarps.evaluation.coverage import PredictionSets, set_metrics


def test_a_promise_is_broken_where_chance_does_not_explain_it() -> None:
    labels = np.array([0] * 20 + [1] * 20)
    sets = np.zeros((40, 3), dtype=bool)
    sets[:19, 0] = True
    sets[20:30, 1] = True
    sets[:, 2] = True
    found = set_metrics(PredictionSets(sets, 0.9), labels, ["A", "B", "C"], 0.95)
    assert found["size"] == pytest.approx(1 + 29 / 40)
    assert found["coverage"] == pytest.approx(29 / 40)
    assert found["of_class"] == {"A": 0.95, "B": 0.5, "C": None}
    # Clopper and Pearson's interval of 10 in 20, as their paper's table has it.
    assert (found["of_class_low"]["B"], found["of_class_high"]["B"]) == pytest.approx((0.272, 0.728), abs=5e-4)
    assert found["of_class_low"].keys() == found["of_class_high"].keys() == {"A", "B"}
    assert found["broken"] == ["B"]
    assert set_metrics(PredictionSets(sets, 0.7), labels, ["A", "B", "C"], 0.95)["broken"] == []
