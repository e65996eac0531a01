"""The files that every project has: they stand in the root of the repository, and a wheel packs them."""

#: Those of ``.dvc`` and ``.dvcignore`` are all that ``dvc init`` makes, at the top of a git repository and below it.
PROJECT_FILES = (
    ".dvc/.gitignore",
    ".dvc/config",
    ".dvc/plots/confusion_by_class.json",
    ".dvc/plots/lines_by_class.json",
    ".dvc/plots/points_by_layer.json",
    ".dvcignore",
    ".gitattributes",
    ".gitignore",
    "crossvalidation/dvc.yaml",
    "data/.gitignore",
    "dvc.yaml",
    "fetching/dvc.yaml",
    "models/.gitignore",
    "params.yaml",
    "prediction/dvc.yaml",
    "reports/.gitignore",
)
#: The folder of the package that a wheel packs them in.
PACKED = "packed"
