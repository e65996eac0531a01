from spacewarps.commands.recorded_outputs import differing_outputs, read_outputs

LOCK = """
schema: '2.0'
stages:
  prepare:
    cmd: spacewarps prepare
    outs:
    - path: data/prepared
      hash: md5
      md5: aaa.dir
"""
OTHER = LOCK.replace("prepare:", "crossvalidate:").replace("data/prepared", "reports/cv.csv").replace("aaa.dir", "bbb")


def test_outputs_stand_in_any_of_the_locks() -> None:
    outputs = {"data/prepared": "aaa.dir", "reports/cv.csv": "bbb"}
    assert differing_outputs(outputs, LOCK, OTHER) == []
    assert differing_outputs(outputs, OTHER) == ["data/prepared"]
    assert differing_outputs({**outputs, "reports/cv.csv": "ccc"}, LOCK, OTHER) == ["reports/cv.csv"]


def test_what_is_no_lock_has_no_outputs() -> None:
    assert read_outputs("") == read_outputs("stages: 3") == read_outputs("{") == {}
    assert differing_outputs({"data/prepared": "aaa.dir"}, "") == ["data/prepared"]
