"""The project's own errors: what a user can get wrong."""


class SpaceWarpsError(Exception):
    """Something that the user can put right.

    The message is one line: the file, row or parameter, what was found there, and what to do. The command line prints
    it and exits with status 2.
    """


class ParamsError(SpaceWarpsError):
    """A value in ``params.yaml`` is unknown, mistyped or out of range."""


class DependenciesChangedError(SpaceWarpsError):
    """Params, code or inputs of a stage have changed since it began."""


class SurveyError(SpaceWarpsError):
    """A catalogue or a stamp cannot be used."""


class ModelError(SpaceWarpsError):
    """A network cannot be built, grown or loaded as asked."""


def extra_missing(extra: str, *modules: str) -> str:
    """Return in words that ``modules`` are not there, which ``extra`` of this package would install."""
    return (
        f"the extra `{extra}` is not installed ({', '.join(modules)}): pip install 'spacewarps[{extra}]', "
        f"or '.[{extra}]' in the repository"
    )
