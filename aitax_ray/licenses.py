"""Licences: from the many ways in which publishers write them to one name each, and what a policy admits.

The name is the SPDX identifier (https://spdx.org/licenses) where there is one: CC0-1.0, CC-BY-4.0, CC-BY-NC-4.0;
without a version (CC-BY) where the text tells none. Beside them stand `public-domain`, `all-rights-reserved` and
`unknown`, which is what no text, and any text that names no licence, comes to.
"""

import re
from typing import Literal

Policy = Literal["open", "non-commercial", "any"]
PUBLIC_DOMAIN, ALL_RIGHTS_RESERVED, UNKNOWN = "public-domain", "all-rights-reserved", "unknown"

_MARK = "CC-PDM-1.0"
_VERSION = re.compile(r"(?<![\d.])([1-4][._][05])(?![\d.])")
_CC = r"creative\s?commons|(?<![a-z])cc(?![a-z])|licen[cs]es?/"
_BY = re.compile(r"(?<![a-z])by(?![a-z])")
_CC_BY = re.compile(rf"(?:{_CC})[^a-z0-9]*by(?![a-z])")
_CODE = re.compile(r"(?<![a-z])by((?:[^a-z0-9]+(?:nc|nd|sa)(?![a-z]))+)")  # by-nc-sa, BY NC, by/nc, BY (NC)
_DEED = re.compile(r"CC-(BY(?:-(?:NC|ND|SA))*)-(\d\.\d)")
_PUBLIC_DOMAIN_DEEDS = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-PDM-1.0": "https://creativecommons.org/publicdomain/mark/1.0/",
    PUBLIC_DOMAIN: "https://creativecommons.org/publicdomain/mark/1.0/",
}
_WORDS = {
    "nc": re.compile(r"no[nt]?[^a-z0-9]*(?:for )?commercial"),
    "nd": re.compile(r"no[^a-z0-9]*deriv"),
    "sa": re.compile(r"share[^a-z0-9]*alike"),
}


def normalise(text: str) -> str:
    """The name of the licence that a text (URL, code or prose) states; in doubt the one that allows less.

    >>> normalise("http://creativecommons.org/licenses/by-nc/4.0/"), normalise("CC_BY_4_0"), normalise("cc by-sa")
    ('CC-BY-NC-4.0', 'CC-BY-4.0', 'CC-BY-SA')
    """
    plain = text.strip().lower()
    if plain in (PUBLIC_DOMAIN, ALL_RIGHTS_RESERVED):
        return plain
    # Every restriction counts, wherever it stands: "photo by Ann, CC BY-NC", "CC BY (non-commercial)".
    parts = {part for code in _CODE.findall(plain) for part in re.findall("nc|nd|sa", code)}
    parts |= {part for part, word in _WORDS.items() if word.search(plain)}
    if re.search(r"(?<![a-z])cc[\s_-]?(0|zero)|publicdomain/zero|no rights reserved", plain):
        return "CC0-1.0" if not parts else UNKNOWN
    if re.search(r"publicdomain/mark|public domain mark|(?<![a-z])cc-pdm", plain):
        return _MARK
    if re.search(r"all rights? reserved", plain) and "licenses/by" not in plain:
        return ALL_RIGHTS_RESERVED
    is_cc = re.search(_CC, plain)
    is_code = _BY.match(plain) and re.fullmatch(r"by(?:[^a-z0-9]+(?:nc|nd|sa))*", _VERSION.sub("", plain).strip(" -_"))
    says_attribution = "attribution" in plain and (is_cc or plain.startswith("attribution"))
    if _CC_BY.search(plain) or is_code or says_attribution or (is_cc and parts and _BY.search(plain)):
        return _creative_commons(parts, plain)
    return PUBLIC_DOMAIN if re.search(r"public\s?domain", plain) else UNKNOWN


def is_admitted(license_id: str, policy: Policy) -> bool:
    """Whether a policy admits a licence, named as `normalise` names it.

    `open` admits the public domain, CC0, BY and BY-SA (https://opendefinition.org/licenses); `non-commercial` every
    Creative Commons licence; `any` all, also what is not known.
    """
    if policy == "any":
        return True
    if license_id in (PUBLIC_DOMAIN, "CC0-1.0", _MARK):
        return True
    if not license_id.startswith("CC-BY"):
        return False
    return policy == "non-commercial" or not {"NC", "ND"} & set(license_id.split("-"))


def _creative_commons(parts: set[str], text: str) -> str:
    version = _VERSION.search(text)
    order = [part.upper() for part in ("nc", "nd", "sa") if part in parts]
    return "-".join(["CC-BY", *order, *([version[1].replace("_", ".")] if version else [])])


def deed(license_id: str) -> str:
    """The page that explains a Creative Commons licence or mark, named as `normalise` names it; else "".

    Without its version, which the author did not tell, there is none that would be the author's.

    >>> deed("CC-BY-NC-4.0"), deed("CC-BY")
    ('https://creativecommons.org/licenses/by-nc/4.0/', '')
    """
    if match := _DEED.fullmatch(license_id):
        return f"https://creativecommons.org/licenses/{match[1].lower()}/{match[2]}/"
    return _PUBLIC_DOMAIN_DEEDS.get(license_id, "")
