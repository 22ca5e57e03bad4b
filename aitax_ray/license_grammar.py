"""Reads the text of a licence as letters, one for each part that it states, and the versions in it.

The letters are those of license_titles; beside them stand 1 for the version 1.0, V for any other number of a version,
and ! for whatever is left over. `STATEMENTS` says which letters make sense in which order.
"""

import re
import unicodedata
from itertools import takewhile

from aitax_ray.license_titles import PHRASES

UNPORTED = ("1.0", "2.0", "2.5", "3.0", "4.0")
# https://creativecommons.org/licenses/list.en; 2.1 was only ever ported.
PORTS = {
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
PARTS = {"N": "NC", "D": "ND", "S": "SA"}
_LONGEST = max(map(len, PHRASES))

# The quantifiers are possessive: there is one way to read a text, and it takes linear time.
_CC_STATEMENT = r"[CL]*+(?:[1V][CL]*+)?+[BA][NDS]*+(?:[1V]J*+|[CLW])*+[NDS]*+"
_DOMAIN_STATEMENT = r"[CL]*+[ZUP](?:1|[CLW])*+"
STATEMENTS = re.compile(rf"(?:F*+(?:{_CC_STATEMENT}|{_DOMAIN_STATEMENT})F*+)++")


def read(folded: str) -> tuple[str, set[str]]:
    """Read a text that `license_titles.fold` has made: its letters and its versions, such as "4.0"."""
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
    exists = port in PORTS.get(version, "").split() if port else version in (None, *UNPORTED)
    if not exists or len(set(restrictions)) < len(restrictions):
        return "!", set()
    letters = "CB" + "".join(letter for letter, part in PARTS.items() if part.lower() in restrictions)
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
    """Find the longest phrase that tokens begin with: its number of tokens, 0 when there is none, and its letters."""
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
