"""What astropy writes in YAML about the columns of a table: in the comments of an ECSV, in the schema of a Parquet."""

from ruamel.yaml import YAML

#: How the comments of an ECSV begin.
ECSV = "# %ECSV"
# Some thousand columns; YAML of this length takes two seconds at most.
_MOST_CHARACTERS = 2**18


class DescriptionError(Exception):
    """The description of a table's columns cannot be read; the message says why, and follows the name of the file."""


def units_described(text: str) -> dict[str, str]:
    """Return the unit of each column that has one.

    Args:
        text: the YAML; of an ECSV, without the signs of its comments.

    Raises:
        DescriptionError: it is damaged, or too long.
    """
    # What follows is the user's own, and can be anything.
    columns = text.partition("\nmeta:")[0]
    if len(columns) > _MOST_CHARACTERS:
        raise DescriptionError(f"describes its columns in more than {_MOST_CHARACTERS:,} characters; remove that")
    try:
        found = YAML(typ="base", pure=True).load(columns)
    # Damaged YAML fails in many ways, deep nesting among them.
    except Exception:
        raise DescriptionError("describes its columns in YAML that is damaged; mend or remove that") from None
    described = found.get("datatype") if isinstance(found, dict) else None
    if not isinstance(described, list):
        return {}
    return {
        str(column["name"]): str(column["unit"])
        for column in described
        if isinstance(column, dict) and column.get("name") and column.get("unit")
    }
