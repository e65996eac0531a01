import copy
import os
import pickle
import time
from contextlib import nullcontext
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml

from spacewarps.errors import ModelError, ParamsError, SurveyError
from spacewarps.model.blocks import BLOCKS, InceptionBlock
from spacewarps.model.settings import BLOCK_KINDS, BlockSpec
from spacewarps.params import InvalidParamsError, Params, SearchParams, load_params
from spacewarps.search.executors.settings import EXECUTORS
from spacewarps.search.strategies import STRATEGIES
from spacewarps.settings import as_values
from spacewarps.simulation.demo import simulate_survey
from spacewarps.simulation.settings import MAX_SAMPLES, MIN_SAMPLES
from spacewarps.yaml_params import read_yaml, write_yaml

SHIPPED = Path(__file__).parents[1] / "params.yaml"
MISSING = object()


@pytest.fixture(scope="module")
def shipped() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    return values


def load_text(folder: Path, text: str) -> Params:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path)


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ParamsError) as caught:
        load_text(folder, text)
    message = str(caught.value)
    assert "\n" not in message
    start = f"{folder / 'params.yaml'}: "
    assert message.startswith(start)
    return message.removeprefix(start)


def with_value(values: dict[str, Any], name: str, value: Any) -> str:
    changed = copy.deepcopy(values)
    *sections, last = name.split(".")
    section = changed
    for part in sections:
        section = section[part]
    if value is MISSING:
        del section[last]
    else:
        section[last] = value
    return yaml.safe_dump(changed)


def test_the_shipped_file_loads() -> None:
    params = load_params(SHIPPED)
    assert params.search.candidates_by_step() == ((16, 32), (32, 64), (64, 96), (96, 128), (128, 192))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("serach", {}, "serach is not a parameter; did you mean search?"),
        ("optimizer", {"a": 1}, "optimizer is not a parameter; did you mean optimiser?"),
        ("search.max_layer", 3, "search.max_layer is not a parameter; did you mean search.max_layers?"),
        (
            "search.warm_start.jiter",
            0.1,
            "search.warm_start.jiter is not a parameter; did you mean search.warm_start.jitter?",
        ),
        ("data.columns.lable", "x", "data.columns.lable is not a parameter; did you mean data.columns.label?"),
        (
            "train.zzz",
            1,
            "train.zzz is not a parameter; "
            "the names here are start, data, folds, epochs, average, orientations, calibration, coverage",
        ),
        ("train.epochs[0]", 1, "train.epochs[0] is not a parameter; did you mean train.epochs?"),
        (
            "train.one list",
            1,
            "train.one list is not a parameter; "
            "the names here are start, data, folds, epochs, average, orientations, calibration, coverage",
        ),
        ("train.data", "all", "train.data is 'all', but input should be 'train', 'train_and_validation' or 'folds'"),
        (
            "train.start",
            "warm",
            "train: data is folds, but start is warm, and the search's weights have seen the samples that a fold holds "
            "out; set start to fresh",
        ),
        ("train.average", 1.0, "train.average is 1.0, but input should be less than 1"),
        ("train.average", -0.1, "train.average is -0.1, but input should be greater than or equal to 0"),
        ("train.coverage", 1.0, "train.coverage is 1.0, but input should be less than or equal to 0.999"),
        ("train.orientations", 4, "train: orientations must be 1 or 8, but got 4"),
        ("train.orientations", True, "train.orientations is True, but input should be a valid integer"),
        (
            "train.calibration",
            "platt",
            "train.calibration is 'platt', but input should be 'none' or 'temperature'",
        ),
        ("fetch.service", "sdss", "fetch: format must be jpg where service is sdss, but got fits"),
        ("fetch.bands", ["g/r"], "fetch.bands.0 is 'g/r', but string should match pattern '^[A-Za-z0-9]{1,20}$'"),
        (
            "fetch.catalog",
            "data/fetched/images",
            "paths.fetched is data/fetched, a folder that a stage replaces, and fetch.catalog lies in it; choose "
            "another",
        ),
        ("search.folds", 0, "search.folds is 0, but input should be greater than or equal to 1"),
        ("search.folds", 33, "search.folds is 33, but input should be less than or equal to 32"),
        (
            "optimiser.class_weights",
            "inverse",
            "optimiser.class_weights is 'inverse', but input should be 'none' or 'balanced'",
        ),
        (
            # 1 - (1 - confidence) / candidates would be 1, which no normal quantile is.
            "search.confidence",
            0.9999999999999999,
            "search.confidence is 0.9999999999999999, but input should be less than or equal to 0.999999",
        ),
        ("search.max_layers", "3", "search.max_layers is '3', but input should be a valid integer"),
        ("search.max_layers", True, "search.max_layers is True, but input should be a valid integer"),
        ("search.max_layers", 3.0, "search.max_layers is 3.0, but input should be a valid integer"),
        ("search.max_layers", 0, "search.max_layers is 0, but input should be greater than or equal to 1"),
        ("optimiser.learning_rate", 0, "optimiser.learning_rate is 0, but input should be greater than 0"),
        (
            "optimiser.learning_rate",
            float("nan"),
            "optimiser.learning_rate is nan, but input should be a finite number",
        ),
        ("compute.device", "gpu", "compute.device is 'gpu', but input should be 'auto', 'cpu' or 'cuda'"),
        (
            "search.warm_start.mode",
            "nonw",
            "search.warm_start.mode is 'nonw', but input should be 'none', 'previous' or 'siblings'",
        ),
        ("seed", -1, "seed is -1, but input should be greater than or equal to 0"),
        ("seed", None, "seed is None, but input should be a valid integer"),
        ("search", MISSING, "search is missing; add it"),
        ("search.warm_start", MISSING, "search.warm_start is missing; add it"),
        ("data.columns.dec", MISSING, "data.columns.dec is missing; add it"),
        (
            "data.columns.dec",
            "ra",
            "data.columns: id, label, ra and dec must be different columns, but 'ra' stands for two",
        ),
        (
            "data.columns.dec",
            None,
            "data.columns: ra and dec must both be names, or both null for a survey without positions, "
            "but got ra='ra' and dec=None",
        ),
        ("data.columns.ra", 1, "data.columns.ra is 1, but input should be a valid string; put it in quotes"),
        (
            "data.missing_codes",
            {"y": [99]},
            "data: missing_codes must name features, but 'y' is none of ['z', 'z_err']",
        ),
        ("data.missing_codes", {"z": 99}, "data.missing_codes.z is 99, but input should be a valid list"),
        ("data.missing_codes", {"z": ["x"]}, "data.missing_codes.z.0 is 'x', but input should be a valid number"),
        ("search", 3, "search is 3, but it should be a section with names"),
        ("data.features", "z", "data.features is 'z', but input should be a valid list"),
        ("data.features", ["z", "z"], "data: features must differ from each other, but got ['z', 'z']"),
        ("data.features", ["class"], "data: features must not hold the id or the label, but got ['class']"),
        ("search.block_kinds", "conv", "search.block_kinds is 'conv', but input should be a valid list"),
        ("search.block_kinds", [], "search: block_kinds must not be empty"),
        (
            "search.block_kinds",
            ["conv", "dense"],
            "search.block_kinds.1 is 'dense', but input should be 'conv', 'residual', 'separable' or 'inception'",
        ),
        (
            "search.block_kinds",
            ["conv", "conv"],
            "search: block_kinds must differ from each other, but got ['conv', 'conv']",
        ),
        ("search.kernel_sizes", [], "search: kernel_sizes must not be empty"),
        ("search.kernel_sizes", [3, 3], "search: kernel_sizes must differ from each other, but got [3, 3]"),
        (
            "search.kernel_sizes",
            [3, 4],
            "search: kernel_sizes must be odd, so that a map keeps its size, but got 4",
        ),
        ("search.kernel_sizes", [17], "search.kernel_sizes.0 is 17, but input should be less than or equal to 15"),
        ("search.kernel_sizes", [-1], "search.kernel_sizes.0 is -1, but input should be greater than or equal to 1"),
        ("search.kernel_sizes", [3.0], "search.kernel_sizes.0 is 3.0, but input should be a valid integer"),
        ("search.strategy", "random", "search.strategy is 'random', but input should be 'greedy', 'beam' or 'pnas'"),
        ("search.beam_width", 0, "search.beam_width is 0, but input should be greater than or equal to 1"),
        ("search.beam_width", 65, "search.beam_width is 65, but input should be less than or equal to 64"),
        ("search.trained_per_step", 0, "search.trained_per_step is 0, but input should be greater than or equal to 1"),
        ("search.halving", -1, "search.halving is -1, but input should be greater than or equal to 0"),
        ("search.halving", 17, "search.halving is 17, but input should be less than or equal to 16"),
        ("search.halving", True, "search.halving is True, but input should be a valid integer"),
        ("search.trains", "head", "search.trains is 'head', but input should be 'all' or 'block'"),
        ("search.threads", 0, "search.threads is 0, but input should be greater than or equal to 1"),
        ("search.threads", "auto", "search.threads is 'auto', but input should be a valid integer"),
        ("search.executor", "slurm", "search.executor is 'slurm', but input should be 'inline', 'processes' or 'ray'"),
        ("search.workers", "many", "search.workers is 'many', but input should be 'auto'"),
        ("search.workers", 0, "search.workers is 0, but input should be greater than or equal to 1"),
        ("search.workers", 5000, "search.workers is 5000, but input should be less than or equal to 4096"),
        ("search.workers", 1.5, "search.workers is 1.5, but input should be a valid integer"),
        ("search.workers", None, "search.workers is None, but input should be a valid integer"),
        ("search.checkpoints", "yes", "search.checkpoints is 'yes', but input should be a valid boolean"),
        ("search.ray.address", "", "search.ray.address is '', but string should have at least 1 character"),
        ("search.ray.gpu_share", 0, "search.ray.gpu_share is 0, but input should be greater than 0"),
        ("search.ray.gpu_share", 1.5, "search.ray.gpu_share is 1.5, but input should be less than or equal to 1"),
        ("search.ray.adress", "x", "search.ray.adress is not a parameter; did you mean search.ray.address?"),
        ("search.ray", None, "search.ray is None, but it should be a section with names"),
        ("paths.journal", "", "paths: journal must name a folder inside the project, but got '.'"),
        ("paths.journal", "/journal", "paths: journal must name a folder inside the project, but got '/journal'"),
        (
            "paths.journal",
            "models",
            "paths: search and journal must be folders apart, but got models/search and models",
        ),
        (
            "data.split.test",
            0.3,
            "data.split: train, validation and test must add up to 1, but they add up to 1.1",
        ),
    ],
)
def test_a_fault_is_one_line_that_names_the_parameter(
    tmp_path: Path, shipped: dict[str, Any], name: str, value: Any, message: str
) -> None:
    assert complaint(tmp_path, with_value(shipped, name, value)) == message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (8, "search.k_candidates is 8, but input should be a valid list"),
        ([], "search: k_candidates must not be empty"),
        ([0], "search.k_candidates.0 is 0, but input should be greater than or equal to 1"),
        ([8, "x"], "search.k_candidates.1 is 'x', but input should be a valid integer"),
        ([8, [16]], "search.k_candidates.1 is [16], but input should be a valid integer"),
        ([[8], 16, [8], [8]], "search.k_candidates.1 is 16, but input should be a valid list"),
        ([[8], [5000], [8], [8]], "search.k_candidates.1.0 is 5000, but input should be less than or equal to 4096"),
        ([[8], [], [8], [8]], "search: k_candidates must not be empty"),
        ([8, 8], "search: k_candidates of one step must differ from each other, but got [8, 8]"),
        ([[8], [4, 4], [8], [8], [8]], "search: k_candidates of one step must differ from each other, but got [4, 4]"),
    ],
)
def test_candidates_are_one_list_or_one_list_a_step(
    tmp_path: Path, shipped: dict[str, Any], value: Any, message: str
) -> None:
    assert complaint(tmp_path, with_value(shipped, "search.k_candidates", value)) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"block_kinds": ["conv", "inception"], "k_candidates": [3, 8]},
            "search: inception blocks need a k of at least 4, but k_candidates has 3; "
            "raise it, or take inception out of block_kinds",
        ),
        ({"block_kinds": ["conv", "inception"], "k_candidates": [[8], [4], [16], [8], [8], [2]]}, None),
        ({"block_kinds": ["residual", "separable"], "k_candidates": [1]}, None),
        (
            {"halving": 1, "warm_start": {"mode": "siblings", "scale": 1.0, "jitter": 0.1}},
            "search: halving stops candidates early that others would be widened from; "
            "set halving to 0, or warm_start.mode to previous",
        ),
        ({"halving": 2, "warm_start": {"mode": "none", "scale": 1.0, "jitter": 0.1}}, None),
        (
            {"trains": "block", "warm_start": {"mode": "none", "scale": 1.0, "jitter": 0.1}},
            "search: trains is block, which leaves the trunk as it was trained, but warm_start.mode is none, "
            "which draws it anew; set warm_start.mode to previous, or trains to all",
        ),
        ({"trains": "block", "warm_start": {"mode": "siblings", "scale": 1.0, "jitter": 0.1}}, None),
        ({"trained_per_step": 1, "beam_width": 64, "strategy": "pnas"}, None),
        ({"executor": "inline", "workers": 3, "checkpoints": False}, None),
    ],
)
def test_params_of_the_search_that_do_not_go_together_are_named(
    tmp_path: Path, shipped: dict[str, Any], changes: dict[str, Any], message: str | None
) -> None:
    changed = copy.deepcopy(shipped)
    changed["search"] |= changes
    if message is None:
        assert as_values(load_text(tmp_path, yaml.safe_dump(changed)).search).items() >= changes.items()
    else:
        assert complaint(tmp_path, yaml.safe_dump(changed)) == message


@pytest.mark.parametrize(
    ("changes", "folds", "message"),
    [
        ({"data": "folds", "start": "fresh"}, 1, None),
        ({"data": "folds", "start": "fresh", "calibration": "temperature"}, 2, None),
        ({"data": "train_and_validation", "average": 0.99, "calibration": "none"}, 1, None),
        ({"data": "train", "start": "fresh", "calibration": "temperature"}, 5, None),
        (
            {"data": "train", "start": "warm"},
            2,
            "train.start is warm, but search.folds is 2, so the search's weights have seen samples of the validation "
            "split, by which the final training chooses its epoch; set train.start to fresh, or train.data to "
            "train_and_validation or folds",
        ),
        (
            {"data": "train_and_validation", "calibration": "temperature"},
            1,
            "train: calibration is temperature, but data is train_and_validation, which holds out no sample to fit it "
            "on; set calibration to none, or data to train or folds",
        ),
    ],
)
def test_params_of_the_final_training_that_do_not_go_together_are_named(
    tmp_path: Path, shipped: dict[str, Any], changes: dict[str, Any], folds: int, message: str | None
) -> None:
    changed = copy.deepcopy(shipped)
    changed["train"] |= changes
    changed["search"]["folds"] = folds
    if message is None:
        assert as_values(load_text(tmp_path, yaml.safe_dump(changed)).train).items() >= changes.items()
    else:
        assert complaint(tmp_path, yaml.safe_dump(changed)) == message


def test_the_seed_of_every_repeat_is_a_64_bit_integer(tmp_path: Path, shipped: dict[str, Any]) -> None:
    changed = {**shipped, "crossvalidate": {"folds": 5, "repeats": 3}}
    highest = 2**63 - 1
    assert load_text(tmp_path, yaml.safe_dump({**changed, "seed": highest - 2})).seed == highest - 2
    assert complaint(tmp_path, yaml.safe_dump({**changed, "seed": highest - 1})) == (
        "seed is 9223372036854775806 and crossvalidate.repeats is 3, but the seed of the last repeat, seed + repeats - "
        "1, must be at most 2**63 - 1; lower one of them"
    )


def test_every_kind_of_block_has_its_class_and_every_plugin_its_params() -> None:
    assert BLOCKS.keys() == BLOCK_KINDS.keys()
    assert InceptionBlock.branch_count == BLOCK_KINDS["inception"]
    for size in range(1, 20):
        allowed = size % 2 == 1 and size <= 15
        with nullcontext() if allowed else pytest.raises(ModelError):
            BlockSpec(4, "conv", size)
    for plugin in (*STRATEGIES.values(), *(registered.settings for registered in EXECUTORS.values())):
        assert {field.name for field in fields(plugin)} <= SEARCH


def test_the_shipped_file_holds_the_defaults_of_the_library() -> None:
    shipped = as_values(load_params(SHIPPED))
    for section, kind in get_type_hints(Params).items():
        if is_dataclass(kind) and isinstance(kind, type) and section != "paths":
            assert shipped[section] == as_values(kind()), section


SEARCH = {field.name for field in fields(SearchParams)}
WHERE_AND_WHEN = {"executor", "workers", "checkpoints", "ray"}


@pytest.mark.parametrize("pipeline", ["dvc.yaml", "crossvalidation/dvc.yaml"])
def test_dvc_knows_every_param_that_decides_the_search_and_no_other(pipeline: str) -> None:
    stages = yaml.safe_load((SHIPPED.parent / pipeline).read_text(encoding="utf-8"))["stages"]
    watched = set(stages.get("search", stages.get("crossvalidate"))["params"])
    assert {name for name in watched if name.startswith("search.")} == {
        f"search.{name}" for name in SEARCH - WHERE_AND_WHEN
    }
    assert SEARCH > WHERE_AND_WHEN
    assert watched >= {"seed", "augment", "model", "optimiser"}
    if "search" in stages:
        of_compute = {name for name in watched if name.startswith("compute")}
        assert of_compute == {"compute.device", "compute.kernels", "compute.precision"}
        assert "compute" in stages["train"]["params"]
    else:
        assert watched >= {"compute", "train", "crossvalidate", "data.split", "evaluate.confidence"}


def test_a_survey_may_have_no_positions_and_codes_for_missing_values(tmp_path: Path, shipped: dict[str, Any]) -> None:
    changed = copy.deepcopy(shipped)
    changed["data"]["columns"] |= {"ra": None, "dec": None}
    changed["data"]["missing_codes"] = {"z": [-9999, 99.5]}
    data = load_text(tmp_path, yaml.safe_dump(changed)).data
    assert (data.columns.ra, data.columns.dec) == (None, None)
    assert data.missing_codes == {"z": (-9999, 99.5)}


def test_lists_beyond_the_last_step_are_not_used(tmp_path: Path, shipped: dict[str, Any]) -> None:
    lists = [[4, 8], [16], [32], [8], [4], [1]]
    params = load_text(tmp_path, with_value(shipped, "search.k_candidates", lists))
    assert params.search.candidates_by_step() == tuple(map(tuple, lists[:5]))


def test_the_last_list_holds_for_all_further_steps(tmp_path: Path, shipped: dict[str, Any]) -> None:
    params = load_text(tmp_path, with_value(shipped, "search.k_candidates", [[8], [16, 4]]))
    assert params.search.candidates_by_step() == ((8,), *[(16, 4)] * 4)


def test_several_faults_are_counted(tmp_path: Path, shipped: dict[str, Any]) -> None:
    changed = copy.deepcopy(shipped)
    changed["train"] |= {"start": "cold", "epochs": 0}
    message = complaint(tmp_path, yaml.safe_dump(changed))
    assert message == "train.start is 'cold', but input should be 'warm' or 'fresh' (and 1 more)"


def test_every_fault_is_known_and_a_misspelt_name_is_one(tmp_path: Path, shipped: dict[str, Any]) -> None:
    changed = copy.deepcopy(shipped)
    changed["train"] |= {"start": "cold", "epochs": 0}
    changed["search"]["max_layer"] = changed["search"].pop("max_layers")
    del changed["data"]["fraction"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed), encoding="utf-8")
    with pytest.raises(InvalidParamsError) as caught:
        load_params(path)
    lines = [
        f"{path}: search.max_layer is not a parameter; did you mean search.max_layers?",
        f"{path}: train.start is 'cold', but input should be 'warm' or 'fresh'",
        f"{path}: train.epochs is 0, but input should be greater than or equal to 1",
        f"{path}: data.fraction is missing; add it",
    ]
    assert caught.value.lines == lines
    assert pickle.loads(pickle.dumps(caught.value)).lines == lines
    assert str(caught.value) == f"{lines[0]} (and 3 more)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML: "),
        ("\0", "not valid YAML: "),
        ("a: 2020-13-45", "not valid YAML: "),
        ("? [a]\n: 1", "('a',) is not a parameter; the names here are seed, paths, "),
        ("? {a: 1}\n: 1", "not valid YAML: while constructing a mapping, found unhashable key (line 1)"),
        ("a: 1\n---\nb: 2", "not valid YAML: expected a single document in the stream, but found another document"),
        ("a: !!int ''", "not valid YAML: "),
        ("[" * 5000, "not valid YAML: "),
        ("a: !!python/object/apply:os.system ['exit 1']", "not valid YAML: could not determine a constructor"),
        ("", "must hold sections with names, but it holds None"),
        ("- 1", "must hold sections with names, but it holds [1]"),
        ("1: 2", "1 is not a parameter; the names here are seed, paths, "),
        ("a[: 2", "a[ is not a parameter; the names here are seed, paths, "),
    ],
)
def test_what_is_no_params_file_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert complaint(tmp_path, text).startswith(message)


def test_a_name_that_stands_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert "seed appears twice" in complaint(tmp_path, f"{text}\nseed: 2\n")
    twice = text.replace("  epochs: 30", "  epochs: 20\n  epochs: 30")
    line = next(number for number, row in enumerate(twice.splitlines(), start=1) if row == "  epochs: 30")
    assert complaint(tmp_path, twice) == f"not valid YAML: epochs appears twice (line {line})"


def bomb(section: str, item: str) -> str:
    """Return a small text whose aliases, written out, are ten billion values."""
    rows = [f"a{n}: &a{n} {section % ', '.join([item % (n - 1)] * 10)}" for n in range(1, 11)]
    return "\n".join(["a0: &a0 {x: 1}", *rows])


TOO_MANY = "not valid YAML: more than 100,000 values, where aliases are written out (line 1)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb("[%s]", "*a%d"), TOO_MANY),
        (bomb("{<<: [%s]}", "*a%d"), TOO_MANY),
        ("seed: &a [*a]", TOO_MANY),
        ("[" * 100_000, "not valid YAML: nested more than 64 deep (line 1)"),
        ("a" * 200_000, "cannot be read (larger than 131,072 bytes)"),
        ("seed: 0x" + "f" * 9000, "seed is a number of too many digits, but input should be less than"),
        (f"{'a' * 1000}: 1", "aaaa"),
        (
            f"seed: [{'[1, 2, 3], ' * 100}]",
            "seed is [[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3], ...], but",
        ),
    ],
    ids=["aliases", "merged sections", "in itself", "deep", "large", "long number", "long name", "long list"],
)
def test_what_would_fill_memory_or_take_hours_is_refused_at_once(tmp_path: Path, text: str, message: str) -> None:
    start = time.monotonic()
    told = complaint(tmp_path, text)
    assert told.startswith(message)
    assert len(told) < 500
    assert time.monotonic() - start < 20


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match=r"params\.yaml: cannot be read \(a pipe or a device, not a file\)$"):
        load_params(tmp_path / "params.yaml")


def test_an_alias_stands_for_what_it_names(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8").replace("seed: 1 ", "seed: &a 7 ").replace("epochs: 30", "epochs: *a")
    params = load_text(tmp_path, text)
    assert (params.seed, params.train.epochs) == (7, 7)


# fmt: off
SCALARS = [
    "No", "no", "on", "off", "yes", "Yes", "Y", "y", "n", "true", "True", "TRUE", "false", "null", "Null", "~", "",
    "010", "08", "0o10", "0o8", "0b1", "0x1f", "1_000", "1__0", "_1", "1_0.5", "+1", "-0", "1,000",
    "1:30", "2:30", "190:20:30", "2026-11-25", "2001-1-1", "2026-11-25 10:00:00", "10.0.0.1",
    ".5", "+.5", "1.", "1e3", "1E5", "1e-05", "1.e-5", ".inf", "-.Inf", ".nan", "nan", "inf",
    "'No'", '"No"', "'true'", "'1'", "!!str No", "!!str 1", "!!int '3'", "!!float 1", "<<x", "=x",
    "|\n  No", ">-\n  010",
]
# fmt: on


@pytest.mark.filterwarnings("ignore::ruamel.yaml.error.MantissaNoDotYAML1_1Warning")
@pytest.mark.parametrize("start", ["", "%YAML 1.1\n---\n", "%YAML 1.2\n---\n"])
@pytest.mark.parametrize("scalar", SCALARS)
def test_a_scalar_is_read_and_written_as_dvc_reads_it(start: str, scalar: str) -> None:
    text = f"{start}a: {scalar}\n"
    read, by_dvc = read_yaml(text), parse_yaml(text, "params.yaml")
    # As text, since a number equals another of its kind, and NaN nothing.
    assert repr(read) == repr(by_dvc)
    assert repr(parse_yaml(write_yaml(read), "params.yaml")) == repr(by_dvc)


@pytest.mark.parametrize("scalar", ["=", "<<", "!!bool x", "2020-13-45", "- 1", "&a *a"])
def test_a_scalar_that_dvc_cannot_read_is_refused(tmp_path: Path, scalar: str) -> None:
    with pytest.raises((YAMLFileCorruptedError, ValueError, KeyError)):
        parse_yaml(f"a: {scalar}", "params.yaml")
    assert complaint(tmp_path, f"a: {scalar}").startswith("not valid YAML: ")


@pytest.mark.parametrize(
    ("scalar", "found"),
    [("true", "True"), ("12", "12"), ("1.50", "1.5"), ("2026-11-25", "datetime.date(2026, 11, 25)")],
)
def test_a_name_that_is_read_as_something_else_is_to_be_put_in_quotes(tmp_path: Path, scalar: str, found: str) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    told = complaint(tmp_path, text.replace("{id: id,", f"{{id: {scalar},", 1))
    assert told == f"data.columns.id is {found}, but input should be a valid string; put it in quotes"
    assert load_text(tmp_path, text.replace("{id: id,", f"{{id: '{scalar}',")).data.columns.id == scalar


def test_the_seed_is_the_number_that_dvc_records(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert load_text(tmp_path, text.replace("seed: 1 ", "seed: 010 ")).seed == 10
    assert complaint(tmp_path, text.replace("seed: 1 ", "seed: 2:30 ")).startswith("seed is '2:30', but input should")


@pytest.mark.parametrize("text", ["1e-05", "1E-5", "1.e-5", "0.00001", "+1e-05"])
def test_numbers_are_read_as_dvc_writes_them(tmp_path: Path, text: str) -> None:
    changed = SHIPPED.read_text(encoding="utf-8").replace("learning_rate: 0.003", f"learning_rate: {text}")
    assert load_text(tmp_path, changed).optimiser.learning_rate == 1e-5


def test_a_whole_number_does_for_a_share_but_not_the_other_way(tmp_path: Path, shipped: dict[str, Any]) -> None:
    assert load_text(tmp_path, with_value(shipped, "data.fraction", 1)).data.fraction == 1.0
    assert "seed is 100000.0" in complaint(tmp_path, with_value(shipped, "seed", 1e5))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml: no such file; run from the folder that holds params\.yaml$"):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match="cannot be read"):
        load_params(tmp_path)
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ParamsError, match="cannot be read"):
        load_params(tmp_path / "params.yaml")


def test_params_do_not_change_once_read() -> None:
    params = load_params(SHIPPED)
    with pytest.raises(FrozenInstanceError):
        params.seed = 2  # type: ignore[misc]


def test_params_and_simulator_agree_on_how_large_a_demo_survey_may_be(tmp_path: Path, shipped: dict[str, Any]) -> None:
    for rows in (MIN_SAMPLES - 1, MAX_SAMPLES + 1):
        with pytest.raises(ParamsError, match=r"simulate\.n_samples"):
            load_text(tmp_path, with_value(shipped, "simulate.n_samples", rows))
        with pytest.raises(SurveyError, match="Number of samples must be at"):
            simulate_survey(tmp_path / "demo", n_samples=rows, seed=1)


@pytest.mark.parametrize(
    ("name", "value"), [("data.catalog", "a\0b"), ("data.images", "a\0b"), ("train.epochs", 10**22)]
)
def test_what_no_run_could_use_is_refused_by_name(
    tmp_path: Path, shipped: dict[str, Any], name: str, value: object
) -> None:
    with pytest.raises(ParamsError, match=name):
        load_text(tmp_path, with_value(shipped, name, value))
