"""Which commit and which DVC experiment a run belongs to."""

import os
import re
import subprocess


def git_and_dvc_tags() -> dict[str, str]:
    """Return the commit and the DVC experiment as tags of a run, as far as there are any."""
    tags = {}
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, check=False)
    except OSError:
        # There is no git, or it cannot be run.
        commit = None
    else:
        commit = re.match(rb"[0-9a-f]{40,64}$", done.stdout.strip())
    if commit:
        tags["mlflow.source.git.commit"] = commit[0].decode()
    for variable, tag in (("DVC_EXP_NAME", "dvc.experiment"), ("DVC_EXP_BASELINE_REV", "dvc.baseline")):
        if os.environ.get(variable):
            tags[tag] = os.environ[variable]
    return tags
