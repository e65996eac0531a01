"""``spacewarps init`` for a survey of one's own: looks at it, says what it holds, writes a project with its params."""

import argparse
import difflib
import os
from pathlib import Path
from typing import Any

from spacewarps.commands.survey_in_words import Words
from spacewarps.errors import ParamsError, SpaceWarpsError
from spacewarps.progress import say
from spacewarps.project import PARAMS, check_new, default_params, init_project
from spacewarps.reading import read_bytes
from spacewarps.survey.inspection.look import Look, look_at_survey
from spacewarps.survey.inspection.roles import Wishes
from spacewarps.yaml_params import MAX_BYTES, NotYamlError, edit_yaml, read_yaml


def run(options: argparse.Namespace) -> int:
    """Look at the survey that ``options`` name, and write a project for it into their folder.

    Returns:
        The exit status: 2 where the folder has params already, to which only the difference is shown.

    Raises:
        SpaceWarpsError: the survey cannot be used, only the user can say what a column is, or the folder is no place
            for a project; nothing is written.
    """
    file = options.folder / PARAMS
    is_there = file.is_file()
    before = _params_in(file) if is_there else default_params()
    if not is_there:
        check_new(options.folder)
    places = {"catalog": options.catalog, "images": options.images}
    written = {name: _as_written(path, options.folder) for name, path in places.items()}
    _check_places(places, options.folder, before)
    features = None if options.features is None else tuple(options.features)
    extension = int(options.extension) if (options.extension or "").isdecimal() else options.extension
    look = look_at_survey(
        options.catalog, options.images, Wishes(options.id, options.label, features), extension=extension
    )
    words = Words(look, options.catalog, options.images)
    values = _values(look, written)
    after = edit_yaml(before, "data", values, words.above())
    if edit_yaml(before, "data", values, {}) == before:
        after = before
    for line in words.lines():
        say(line)
    if not is_there:
        say("")
        for line in init_project(options.folder, after).splitlines():
            say(line)
        return 0
    if after == before:
        say(f"{file} says all of this already.")
        return 0
    say(f"{file} is there already and stays as it is. This would make it fit:")
    for line in difflib.unified_diff(before.splitlines(), after.splitlines(), str(file), str(file), n=0, lineterm=""):
        say(f"  {line}")
    raise SpaceWarpsError(
        f"{file} is there already, so nothing was written; change the lines above, or name a new folder"
    )


def _params_in(file: Path) -> str:
    try:
        text = read_bytes(file, at_most=MAX_BYTES).decode("utf-8")
        values = read_yaml(text)
    except OSError as error:
        raise ParamsError(f"{file}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, NotYamlError) as error:
        raise ParamsError(f"{file}: not valid YAML: {error!s:.300}; name a new folder") from None
    if not isinstance(values, dict) or not isinstance(values.get("data"), dict):
        raise ParamsError(f"{file}: holds no section `data`, so it is of another project; name a new folder")
    return text


def _as_written(path: Path, folder: Path) -> str:
    """Return how params name ``path``: from the project where it lies in it, and from the root elsewhere."""
    whole = Path(os.path.normpath(path.absolute()))
    if not str(whole).isprintable():
        raise SpaceWarpsError(f"{str(whole)!r:.200}: params.yaml cannot hold this name; rename it, or link to it")
    real, project = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return real.relative_to(project).as_posix() if real.is_relative_to(project) else str(whole)


def _check_places(places: dict[str, Path], folder: Path, params: str) -> None:
    """Refuse a project in its own survey, and a survey in a folder that a stage replaces."""
    project = Path(os.path.realpath(folder))
    paths = read_yaml(params).get("paths", {})
    for name, path in places.items():
        survey = Path(os.path.realpath(path))
        for param, place in paths.items() if isinstance(paths, dict) else ():
            ours = Path(os.path.realpath(project / str(place)))
            if param == "demo" and survey == ours / name:
                continue
            if ours.is_relative_to(survey):
                raise SpaceWarpsError(
                    f"{folder} lies in --{name} {path}, which is the survey's own; name a folder outside of it"
                )
            if survey.is_relative_to(ours):
                raise SpaceWarpsError(
                    f"--{name} {path} lies in {ours}, a folder that a stage replaces (paths.{param}); move the survey"
                )


def _values(look: Look, written: dict[str, str]) -> dict[str, Any]:
    settings = look.settings
    columns = settings.columns
    return {
        **written,
        "stamp_size": settings.stamp_size,
        "stamp_extension": settings.stamp_extension,
        "stamp_bands": list(settings.stamp_bands),
        "columns": {"id": columns.id, "label": columns.label, "ra": columns.ra, "dec": columns.dec},
        "features": list(settings.features),
        "missing_codes": {
            name: [int(code) if code.is_integer() and abs(code) < 1e15 else code for code in codes]
            for name, codes in settings.missing_codes.items()
        },
    }
