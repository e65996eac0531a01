"""Writes the page that DVC puts its plots on, with its scripts in it, for ``make plots``.

DVC's own page loads them from the network, and is blank without one.
"""

import importlib
import sys
from pathlib import Path

from spacewarps.errors import SpaceWarpsError
from spacewarps.writing import write_text

# DVC fills in what stands in braces; its scripts are left out.
_PAGE = """<!DOCTYPE html>
<html>
<head>
    <meta charset="utf-8">
    {refresh_tag}
    <title>Plots</title>
    <script>%s</script>
</head>
<body>
    {plot_divs}
</body>
</html>
"""


def page() -> str:
    """Return the page as DVC takes it (``--html-template``).

    Raises:
        SpaceWarpsError: the package that brings the scripts is not there.
    """
    try:
        scripts: str = importlib.import_module("vl_convert").javascript_bundle()
    except ImportError:
        raise SpaceWarpsError("the scripts of the page are in another package; pip install vl-convert-python") from None
    return _PAGE.replace("%s", scripts)


if __name__ == "__main__":
    try:
        write_text(Path(sys.argv[1]), page())
    except SpaceWarpsError as error:
        sys.exit(f"make plots: {error}")
