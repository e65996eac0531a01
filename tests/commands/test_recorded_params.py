import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from spacewarps.commands.recorded_params import note_on_params
from spacewarps.params import load_params

SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
SHIPPED["search"] |= {"max_layers": 4, "k_candidates": [8, 16, 32]}
WATCHED = ("max_layers", "k_candidates", "decides", "epochs_per_eval", "patience")


def lock_of(params: dict[str, Any], *, catalog: str = "data/demo/catalog") -> dict[str, Any]:
    """Return what DVC records of a run with ``params``, but for the hashes."""

    def stage(deps: list[str], outs: list[str], **watched: object) -> dict[str, Any]:
        places = {"deps": [{"path": path} for path in deps], "outs": [{"path": path} for path in outs]}
        return {
            **places,
            "params": {"params.yaml": {name.replace("__", "."): value for name, value in watched.items()}},
        }

    search = {f"search__{name}": params["search"][name] for name in WATCHED}
    return {
        "schema": "2.0",
        "stages": {
            "simulate": stage([], ["data/demo"], seed=params["seed"], simulate=params["simulate"]),
            "prepare": stage([catalog], ["data/prepared"], seed=params["seed"], data=params["data"]),
            "search": stage(["data/prepared"], ["models/search"], seed=params["seed"], **search),
            "evaluate": stage(["models/search"], ["reports/metrics.json"], evaluate=params["evaluate"]),
        },
    }


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """Return what is told where ``params.yaml`` holds other values than the lock, given by section."""
    monkeypatch.chdir(tmp_path)

    def note(changed: dict[str, Any], lock: dict[str, Any] | None = None) -> str | None:
        params = {**SHIPPED, **{k: SHIPPED[k] | v if isinstance(v, dict) else v for k, v in changed.items()}}
        Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        if lock is not None:
            Path("dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")
        return note_on_params(load_params(Path("params.yaml")), "evaluate")

    return note


def test_nothing_is_told_where_nothing_has_changed_or_nothing_that_is_recorded(
    note: Callable[..., str | None],
) -> None:
    assert note({}, lock_of(SHIPPED)) is None
    assert note({"search": {"workers": 2, "checkpoints": False}}) is None


def test_a_param_that_differs_is_named_with_both_values(note: Callable[..., str | None]) -> None:
    lock, ends = lock_of(SHIPPED), "; `dvc repro` brings them up to date"
    assert note({"search": {"max_layers": 6}}, lock) == f"search.max_layers is 6, but these results are of 4{ends}"
    assert note({"search": {"decides": "accuracy"}}) == (
        f"search.decides is 'accuracy', but these results are of 'loss'{ends}"
    )
    # DVC records some sections as a whole, and others param by param.
    assert note({"data": {"split": {"train": 0.7, "validation": 0.1, "test": 0.2}}}) == (
        "data.split.train is 0.7, but these results are of 0.6; data.split.validation is 0.1, not 0.2" + ends
    )
    assert note({"data": {"missing_codes": {"z": [99.5]}}}) == (
        f"data.missing_codes.z is [99.5], but these results are without it{ends}"
    )


def test_a_param_that_only_one_of_both_has_is_named(note: Callable[..., str | None]) -> None:
    lock = lock_of(SHIPPED)
    simulate, evaluate = (lock["stages"][name]["params"]["params.yaml"] for name in ("simulate", "evaluate"))
    simulate["simulate"] = {"gone" * 100: 1}
    evaluate["evaluate"] = {name: value for name, value in SHIPPED["evaluate"].items() if name != "confidence"}
    assert note({}, lock) == (
        "simulate.n_samples is 1000, but these results are without it; "
        f"simulate.{'gone' * 100:.91} is not there; evaluate.confidence is 0.95; `dvc repro` brings them up to date"
    )


def test_of_many_that_differ_three_are_named(note: Callable[..., str | None]) -> None:
    changed = {"seed": 2, "search": {"max_layers": 6, "k_candidates": [4], "epochs_per_eval": 1, "patience": 1}}
    assert note(changed, lock_of(SHIPPED)) == (
        "seed is 2, but these results are of 1; search.max_layers is 6, not 4; search.k_candidates is [4], not "
        "[8, 16, 32]; and 2 more; `dvc repro` brings them up to date"
    )


def test_a_run_that_was_cut_short_after_some_stages_is_seen(note: Callable[..., str | None]) -> None:
    lock, before = lock_of(SHIPPED | {"seed": 2}), lock_of(SHIPPED)
    lock["stages"]["search"] = before["stages"]["search"]
    assert note({"seed": 2}, lock) == "seed is 2, but these results are of 1; `dvc repro` brings them up to date"


def test_no_params_are_told_where_the_results_are_not_of_one_run(note: Callable[..., str | None]) -> None:
    lock = lock_of(SHIPPED)
    search, evaluate = lock["stages"]["search"], lock["stages"]["evaluate"]
    search["outs"][0]["md5"] = evaluate["deps"][0]["md5"] = "1" * 32
    Path("reports").mkdir()
    Path("reports/metrics.json").write_text("{}")
    evaluate["outs"][0]["md5"] = "99914b932bd37a50b983c5e7c90ae93b"
    assert note({}, lock) is None
    Path("reports/metrics.json").write_text("{ }")
    assert note({"seed": 2}, lock) == (
        "reports/metrics.json is not the one that dvc.lock has of evaluate, so nobody knows which params it is of; "
        "run `dvc repro`"
    )
    search["outs"][0]["md5"] = "2" * 32
    assert note({"seed": 2}, lock) == (
        "the results of evaluate are of another models/search than the one that dvc.lock has of search; run `dvc repro`"
    )


def test_the_demo_does_not_count_where_the_survey_is_another(note: Callable[..., str | None]) -> None:
    changed = {"simulate": {"n_samples": 500}}
    assert "simulate.n_samples is 500" in str(note(changed, lock_of(SHIPPED)))
    assert note(changed, lock_of(SHIPPED, catalog="/survey/catalogue")) is None


@pytest.mark.parametrize(
    ("lock", "why"),
    [
        (None, "No such file or directory"),
        (b"", "Input should be a valid dictionary"),
        (b"\xff", "invalid start byte"),
        (b"a: [", "while parsing a flow node"),
        (b"<<<<<<< HEAD\nstages: {}\n", "line "),
        (b"stages: 5", "'stages': Input should be a valid dictionary"),
        (b"stages: {evaluate: {params: 3}}", "'stages.evaluate.params': Input should be a valid dictionary"),
        (b"stages: {}", "it holds no stage evaluate"),
        (b"a: " + b"x" * 200_000, "larger than"),
    ],
)
def test_a_lock_that_is_missing_or_damaged_is_said_in_one_line(
    note: Callable[..., str | None], lock: bytes | None, why: str
) -> None:
    if lock is not None:
        Path("dvc.lock").write_bytes(lock)
    told = note({})
    assert told is not None
    assert told.startswith("dvc.lock does not tell whether params.yaml has changed since (")
    assert why in told
    assert "\n" not in told


def test_a_lock_that_is_a_pipe_is_not_waited_for(note: Callable[..., str | None]) -> None:
    os.mkfifo("dvc.lock")
    assert "a pipe or a device, not a file" in str(note({}))
