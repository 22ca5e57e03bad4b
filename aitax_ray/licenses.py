"""Licences: from the many ways in which publishers write them to one name each, and what a policy admits.

The name is the SPDX identifier (https://spdx.org/licenses) where there is one: CC0-1.0, CC-BY-4.0, CC-BY-NC-4.0.
It has no version (CC-BY) where the text gives none, several, or one that does not exist, and no country: a port has
the name of its version. Beside them stand `public-domain`, `all-rights-reserved`, a few open licences for data, and
`unknown`.

A closed grammar (license_grammar) of addresses, codes and titles (license_titles) says what is accepted. Anything left
over makes a text `unknown`: "CC BY" with a condition is not CC BY, whatever language the condition is in.
"""

import re
from functools import lru_cache
from typing import Literal

from aitax_ray.license_grammar import PARTS, PORTS, STATEMENTS, UNPORTED, read
from aitax_ray.license_titles import fold

Policy = Literal["open", "non-commercial", "any"]
PUBLIC_DOMAIN, ALL_RIGHTS_RESERVED, UNKNOWN = "public-domain", "all-rights-reserved", "unknown"
_ZERO, _MARK = "CC0-1.0", "CC-PDM-1.0"

MAX_LENGTH = 1_000  # characters; a longer text has conditions of its own

# "Attribution" or "by" alone names no licence. With "Creative Commons", another part or a real version it does.
_NAMES_CC = re.compile(r"C[CL1V]*[BA]|[NDS]")
_NOTICE = re.compile(r"(?:copyright\s*)?(?:©|\(c\))|copyright (?:by|\d{4})\b")

_CC_NAME = re.compile(r"CC-BY((?:-NC)?(?:-ND|-SA)?)(?:-(\d\.\d))?")
_DOMAIN_DEEDS = {
    _ZERO: "https://creativecommons.org/publicdomain/zero/1.0/",
    _MARK: "https://creativecommons.org/publicdomain/mark/1.0/",
    PUBLIC_DOMAIN: "https://creativecommons.org/publicdomain/mark/1.0/",
}
# Licences that are not of Creative Commons, by the letters and digits of their spellings.
_OTHERS = {
    "ODC-By-1.0": r"(?:opendatacommonsorglicenses|odc)by(?:v?10?)?(?:summary)?"
    r"|(?:opendatacommons)attributionlicense(?:v?10)?",
    "ODbL-1.0": r"(?:opendatacommonsorglicenses)?odbl(?:v?10?)?(?:summary)?"
    r"|(?:opendatacommons)?opendatabaselicense(?:v?10)?",
    "PDDL-1.0": r"(?:opendatacommonsorglicenses)?pddl(?:v?10?)?(?:summary)?",
    "OGL-UK-3.0": r"ogl(?:uk)?v?30?|(?:uk)?opengovernmentlicen[cs]ev?30?"
    r"|nationalarchivesgovukdocopengovernmentlicenceversion3",
    "etalab-2.0": r"etalab(?:v?20)?|licenceouverte(?:openlicence)?(?:etalab)?v?20"
    r"|etalabgouvfrlicenceouverteopenlicence",
}
_OTHER_NAMES = {name: re.compile(pattern) for name, pattern in _OTHERS.items()}


@lru_cache(maxsize=4096)
def normalise(text: str) -> str:
    """Name the licence that a text (URL, code or title) states; in doubt the one that allows less.

    A text with several statements has the restrictions of all of them.

    >>> normalise("http://creativecommons.org/licenses/by-nc/4.0/"), normalise("CC_BY_4_0"), normalise("cc by-sa")
    ('CC-BY-NC-4.0', 'CC-BY-4.0', 'CC-BY-SA')
    >>> normalise("CC BY 4.0, except the photographs")
    'unknown'
    """
    if len(text) > MAX_LENGTH:
        return UNKNOWN
    folded = fold(text).strip()
    letters, versions = read(folded)
    if "R" in letters:
        return ALL_RIGHTS_RESERVED
    if _NOTICE.match(folded) and not set(letters) & set("CBANDSZPU?"):
        return ALL_RIGHTS_RESERVED
    if STATEMENTS.fullmatch(letters):
        return _name(letters, versions)
    key = re.sub(r"^https?|^www|[\W_]", "", re.sub(r"^https?://(?:www\.)?", "", folded))
    return next((name for name, pattern in _OTHER_NAMES.items() if pattern.fullmatch(key)), UNKNOWN)


def is_admitted(license_id: str, policy: Policy) -> bool:
    """Tell whether a policy admits a licence, named as `normalise` names it.

    `open` admits the public domain, CC0, BY and BY-SA; `non-commercial` every Creative Commons licence; `any` all, also
    unknown ones. Licences made for data (ODbL, OGL, ...) are open too (https://opendefinition.org/licenses), but it is
    not clear what they ask of photographs: only `any` admits them.
    """
    if policy == "any" or license_id in _DOMAIN_DEEDS:
        return True
    name = _CC_NAME.fullmatch(license_id)
    return name is not None and (policy == "non-commercial" or name[1] in ("", "-SA"))


def deed(license_id: str) -> str:
    """Give the page that explains a Creative Commons licence or mark, named as `normalise` names it; else "".

    A name without a version has none: the author did not say which.

    >>> deed("CC-BY-NC-4.0"), deed("CC-BY")
    ('https://creativecommons.org/licenses/by-nc/4.0/', '')
    """
    name = _CC_NAME.fullmatch(license_id)
    if name is None or name[2] not in UNPORTED:
        return _DOMAIN_DEEDS.get(license_id, "")
    code = f"by{name[1].lower()}"
    if (code, name[2]) == ("by-nc-nd", "1.0"):
        code = "by-nd-nc"  # as it was called then
    return f"https://creativecommons.org/licenses/{code}/{name[2]}/"


def _name(letters: str, versions: set[str]) -> str:
    if not set(letters) & set("BA"):
        return _ZERO if "Z" in letters else _MARK if "P" in letters else PUBLIC_DOMAIN
    if not (_NAMES_CC.search(letters) or versions & PORTS.keys()) or {"D", "S"} <= set(letters):
        return UNKNOWN
    parts = [part for letter, part in PARTS.items() if letter in letters]
    stated = versions if not set(letters) & set("ZUP") else set()
    version = [*stated] if len(stated) == 1 and stated <= PORTS.keys() else []
    return "-".join(["CC-BY", *parts, *version])
