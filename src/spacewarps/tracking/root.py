"""Which folder is the project's."""

import os
from pathlib import Path


def project_root() -> Path:
    """Return the project's folder, also from one of DVC's temporary copies of it (DVC names it)."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
