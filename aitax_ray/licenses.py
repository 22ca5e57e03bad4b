"""Licences: from the many ways in which publishers write them to one name each, and what a policy admits.

The name is the SPDX identifier (https://spdx.org/licenses) where there is one: CC0-1.0, CC-BY-4.0, CC-BY-NC-4.0.
It has no version (CC-BY) where the text gives none, several, or one that does not exist, and no country: a port has
the name of its version. Beside them stand `public-domain`, `all-rights-reserved`, a few open licences for data, and
`unknown`.

What is accepted is a closed grammar of addresses, codes and titles (license_titles). Anything left over makes a text
`unknown`: "CC BY" with a condition is not CC BY, whatever language the condition is in.
"""

import re
import unicodedata
from functools import lru_cache
from itertools import takewhile
from typing import Literal

from aitax_ray.license_titles import PHRASES, fold

Policy = Literal["open", "non-commercial", "any"]
PUBLIC_DOMAIN, ALL_RIGHTS_RESERVED, UNKNOWN = "public-domain", "all-rights-reserved", "unknown"
_ZERO, _MARK = "CC0-1.0", "CC-PDM-1.0"

MAX_LENGTH = 1_000  # characters; a longer text is a contract, and left over

_UNPORTED = ("1.0", "2.0", "2.5", "3.0", "4.0")
# https://creativecommons.org/licenses/list.en; 2.1 was only ever ported.
_PORTS = {
    "1.0": "fi il nl",
    "2.0": "at au be br ca cl de es fr hr it jp kr nl pl tw uk za",
    "2.1": "au ca es jp",
    "2.5": "ar au bg br ca ch cl cn co dk es hr hu il in it mk mt mx my nl pe pl pt scotland se si tw za",
    "3.0": "am at au az br ca ch cl cn cr cz de ec ee eg es fr ge gr gt hk hr ie igo it lu nl no nz ph pl pr pt ro rs "
    "sg th tw ug us ve vn za",
    "4.0": "",
}
_ADDRESS = re.compile(r"(?<![\w.@/-])(?:https?://|//|www\.|creativecommons\.org/)[^\s|<>\"';,()\[\]]*")
_SUFFIX = (
    r"(?:/(?:deed|legalcode)(?:\.(?:[a-z]{2,3}(?:[-_][a-z]{2,4})?|html))?)?/?(?:\?(?:ref|lang)=[\w-]*)?(?:#[\w-]*)?"
)
_CC_ADDRESS = re.compile(
    r"(?:(?:https?:)?//)?(?:www\.)?creativecommons\.org/+(?:"
    r"licenses/(?P<code>by(?:-(?:nc|nd|sa))*)(?:/(?P<version>\d\.\d)(?:/(?!deed|legalcode)(?P<port>[a-z]+))?)?"
    rf"|publicdomain/(?P<mark>zero|mark)(?:/1\.0)?|licenses/(?P<domain>publicdomain)){_SUFFIX}"
)
_SPDX_ADDRESS = re.compile(r"https?://(?:www\.)?spdx\.org/licenses/([\w.-]+?)(?:\.html|\.json)?/?")
# Han, kana: titles in Chinese and Japanese have no blanks between words.
_CJK = r"\u3005-\u3007\u3041-\u3096\u309d-\u30fa\u30fc-\u30ff\u3400-\u9fff"
_TOKEN = re.compile(rf"[{_CJK}]|[^\W\d_{_CJK}]+|\d+")
_SEPARATORS = {"Pd", "Ps", "Pe", "Pi", "Pf", "Pc"}
_PARTS = {"N": "NC", "D": "ND", "S": "SA"}
_LONGEST = max(map(len, PHRASES))

# Of letters as license_titles has them, with 1 for the version 1.0 and V for any other. Possessive: one way to read it.
_CC_STATEMENT = r"[CL]*+(?:[1V][CL]*+)?+[BA][NDS]*+(?:[1V]J*+|[CLW])*+[NDS]*+"
_DOMAIN_STATEMENT = r"[CL]*+[ZUP](?:1|[CLW])*+"
_STATEMENTS = re.compile(rf"(?:F*+(?:{_CC_STATEMENT}|{_DOMAIN_STATEMENT})F*+)++")
# "Attribution" or "by" alone says nothing: it is of Creative Commons, or has a part or a version of its licences.
_NAMES_CC = re.compile(r"C[CL1V]*[BA]|[NDS1V]")
_NOTICE = re.compile(r"(?:copyright\s*)?(?:©|\(c\))|copyright (?:by|\d{4})\b")

_CC_NAME = re.compile(r"CC-BY((?:-NC)?(?:-ND|-SA)?)(?:-(\d\.\d))?")
_DOMAIN_DEEDS = {
    _ZERO: "https://creativecommons.org/publicdomain/zero/1.0/",
    _MARK: "https://creativecommons.org/publicdomain/mark/1.0/",
    PUBLIC_DOMAIN: "https://creativecommons.org/publicdomain/mark/1.0/",
}
# Named so that nobody takes them for Creative Commons; letters and digits of what is written for them.
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

    Several statements come to the restrictions of all of them.

    >>> normalise("http://creativecommons.org/licenses/by-nc/4.0/"), normalise("CC_BY_4_0"), normalise("cc by-sa")
    ('CC-BY-NC-4.0', 'CC-BY-4.0', 'CC-BY-SA')
    >>> normalise("CC BY 4.0, except the photographs")
    'unknown'
    """
    if len(text) > MAX_LENGTH:
        return UNKNOWN
    folded = fold(text).strip()
    letters, versions = _read(folded)
    if "R" in letters:
        return ALL_RIGHTS_RESERVED
    if _NOTICE.match(folded) and not set(letters) & set("CBANDSZPU?"):
        return ALL_RIGHTS_RESERVED
    if _STATEMENTS.fullmatch(letters):
        return _name(letters, versions)
    key = re.sub(r"^https?|^www|[\W_]", "", re.sub(r"^https?://(?:www\.)?", "", folded))
    return next((name for name, pattern in _OTHER_NAMES.items() if pattern.fullmatch(key)), UNKNOWN)


def is_admitted(license_id: str, policy: Policy) -> bool:
    """Whether a policy admits a licence, named as `normalise` names it.

    `open` admits the public domain, CC0, BY and BY-SA; `non-commercial` every Creative Commons licence; `any` all, also
    what is not known. Licences made for data (ODbL, OGL, ...) are open too (https://opendefinition.org/licenses), but
    what they ask of photographs is not clear, so that only `any` admits them.
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
    if name is None or name[2] not in _UNPORTED:
        return _DOMAIN_DEEDS.get(license_id, "")
    code = f"by{name[1].lower()}"
    if (code, name[2]) == ("by-nc-nd", "1.0"):
        code = "by-nd-nc"  # as it was called then
    return f"https://creativecommons.org/licenses/{code}/{name[2]}/"


def _name(letters: str, versions: set[str]) -> str:
    if not set(letters) & set("BA"):
        return _ZERO if "Z" in letters else _MARK if "P" in letters else PUBLIC_DOMAIN
    if not _NAMES_CC.search(letters) or {"D", "S"} <= set(letters):
        return UNKNOWN
    parts = [part for letter, part in _PARTS.items() if letter in letters]
    stated = versions if not set(letters) & set("ZUP") else set()
    version = [*stated] if len(stated) == 1 and stated <= _PORTS.keys() else []
    return "-".join(["CC-BY", *parts, *version])


def _read(folded: str) -> tuple[str, set[str]]:
    """Read a folded text as the letters of license_titles, with "!" for what is left over; and the versions in it."""
    letters, versions, end = [], set(), 0
    for address in _ADDRESS.finditer(folded):
        for text, read in ((folded[end : address.start()], _read_words), (address[0].rstrip(".:"), _read_address)):
            found, more = read(text)
            letters.append(found)
            versions |= more
        end = address.end()
    found, more = _read_words(folded[end:])
    return "".join([*letters, found]), versions | more


def _read_address(address: str) -> tuple[str, set[str]]:
    if spdx := _SPDX_ADDRESS.fullmatch(address):
        return _read_words(spdx[1])
    parts = _CC_ADDRESS.fullmatch(address)
    if parts is None:
        return "!", set()
    if not parts["code"]:
        return {"zero": "Z", "mark": "P", "publicdomain": "U"}[parts["mark"] or parts["domain"]], set()
    version, port = parts["version"], parts["port"]
    restrictions = parts["code"].split("-")[1:]
    exists = port in _PORTS.get(version, "").split() if port else version in (None, *_UNPORTED)
    if not exists or len(set(restrictions)) < len(restrictions):
        return "!", set()
    letters = "CB" + "".join(letter for letter, part in _PARTS.items() if part.lower() in restrictions)
    return (letters + ("1" if version == "1.0" else "V"), {version}) if version else (letters, set())


def _read_words(text: str) -> tuple[str, set[str]]:
    tokens = _TOKEN.findall(text)
    letters = ["" if all(map(_is_separator, _TOKEN.sub("", text))) else "!"]
    versions = set()
    while tokens:
        number, phrase = _longest_phrase(tokens)
        if not number:
            version = list(takewhile(_is_digit, tokens))
            number = len(version) or 1
            phrase = "!" if number > 2 or not version else "1" if version == ["1", "0"] else "V"
            versions.add(".".join(version))
        letters.append(phrase)
        tokens = tokens[number:]
    return "".join(letters), versions


def _longest_phrase(tokens: list[str]) -> tuple[int, str]:
    """How many tokens the longest phrase at their beginning takes, and its letters."""
    number, letters, key = 0, "", ""
    for end, token in enumerate(tokens, 1):
        key += token
        if len(key) > _LONGEST:
            break
        if key in PHRASES:
            number, letters = end, PHRASES[key]
    return number, letters


def _is_digit(token: str) -> bool:
    return token.isdecimal() and len(token) == 1


def _is_separator(char: str) -> bool:
    return char.isspace() or char in ".,;:/|'\"\\·•・。、" or unicodedata.category(char) in _SEPARATORS
