"""Names that every MLflow store accepts, whatever a survey calls its classes."""

import hashlib
import re

from spacewarps.tracking.groups import GROUPS

# MLflow allows 250 characters; a store of files allows 255 bytes in a name.
_LONGEST = 250
_HASH_DIGITS = 16
# MLflow accepts letters and digits of all scripts, and `_ . - :` and spaces. It takes `/` for a folder, so that the
# names `a` and `a/b` exclude each other in a store of files, and a name that starts with a dot may leave its folder.
# An underscore before an x would look like an escape.
_ESCAPED = re.compile(r"[^\w.\- :]|^\.|_(?=x)")


def acceptable_name(name: str) -> str:
    """Return ``name`` as MLflow accepts it: itself where possible; different names stay different.

    A character that MLflow refuses becomes ``_xHHHH_``, its code in hexadecimal as in Office Open XML: ``RR*`` becomes
    ``RR_x002A_``. Of a name that is too long, the end becomes a hash of the whole. The slash behind one of
    :data:`~spacewarps.tracking.groups.GROUPS` stays.
    """
    group, slash, figure = name.partition("/")
    if slash and figure and group in GROUPS:
        return f"{group}/{_acceptable(figure, _LONGEST - len(group) - 1)}"
    return _acceptable(name, _LONGEST)


def _acceptable(name: str, longest: int) -> str:
    escaped = _escape(name)
    if len(escaped.encode()) <= longest:
        return escaped
    mark = f"_x{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:_HASH_DIGITS].upper()}_"
    # No escape is cut in two, so that what stands before the mark never runs into it.
    kept = name[:longest]
    while len(_escape(kept).encode()) > longest - len(mark):
        kept = kept[:-1]
    return _escape(kept) + mark


def _escape(name: str) -> str:
    return _ESCAPED.sub(lambda found: f"_x{ord(found[0]):04X}_", name)
