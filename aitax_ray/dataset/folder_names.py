"""Names species' folders so that every file system accepts them."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

MAX_NAME = 100  # bytes of a folder's name, and of the key behind it; file systems take 255
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file, also with an ending: AUX.x
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]')


def folder_names(names: Mapping[str, str]) -> dict[str, str]:
    """Name the folder of each species: its name, made safe for every file system; `names` maps keys to names.

    Names that are the same (also when case and the form of accents do not count), reserved, too long or empty get the
    key behind them. No two are the same, in that sense too.
    """
    plain = {key: _safe(name) for key, name in names.items()}
    alike = Counter(map(_folded, plain.values()))
    found: dict[str, str] = {}
    taken = {_folded(name) for name in plain.values() if alike[_folded(name)] == 1}
    for key, name in sorted(plain.items()):
        if not name or _RESERVED.fullmatch(name) or name != _cut(name) or alike[_folded(name)] > 1:
            name = f"{_cut(name) or 'species'} ({_cut(_safe(key))})"
            if _folded(name) in taken:  # keys that are alike themselves
                name = f"{_cut(name)} {hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()}"
            taken.add(_folded(name))
        found[key] = name
    return found


def _safe(name: str) -> str:
    # Dots at the beginning hide a folder, dots and blanks at the end are lost on Windows.
    return " ".join(_UNSAFE.sub("_", unicodedata.normalize("NFC", name)).split()).strip(" ._")


def _cut(name: str) -> str:
    return _safe(name.encode()[:MAX_NAME].decode(errors="ignore"))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
