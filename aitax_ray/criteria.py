"""Which photographs the requests of authors are about: compares addresses and names as people write them."""

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING
from unicodedata import combining, normalize
from urllib.parse import unquote, urlsplit

from aitax_ray.errors import SettingsError
from aitax_ray.takedowns import Request

if TYPE_CHECKING:
    import polars as pl

# Columns that are compared, where a table has them: those of schemas.MEDIA, LEDGER and IMAGES.
ADDRESSES = ("url", "references", "final_url")
NAMES = ("creator", "rights_holder")
SIMILAR = 0.85  # least ratio of difflib for a name that is shown as similar
_COPYRIGHT = re.compile(r"^(?:©|\(c\)|copyright\b)+\s*|^©\s*")
_OCCURRENCE = re.compile(r"(?i)^\s*https?://(?:www\.)?gbif\.org/(?:[a-z]{2}/)?occurrence/([0-9]+)/?\s*$")


def normalise_url(url: str) -> str:
    """Write an address so that different spellings of it are equal.

    http and https are the same, and so are a host with and without `www.`, an address with and without its fragment or
    a slash at its end, and characters with and without percent-encoding.

    >>> normalise_url(" HTTP://www.Example.org:80/a%20b.jpg#top") == normalise_url("https://example.org/a b.jpg")
    True
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return url
    if parts.scheme.lower() in ("http", "https"):
        host = host.removeprefix("www.") + (f":{port}" if port not in (None, 80, 443) else "")
        scheme = ""
    else:
        scheme = f"{parts.scheme.lower()}:"
    rest = unquote(parts.path).rstrip("/") + (f"?{unquote(parts.query)}" if parts.query else "")
    return normalize("NFC", f"{scheme}//{host}{rest}")


def normalise_name(name: str) -> str:
    """Write the name of a person so that case, blanks, forms of Unicode and a sign of copyright make no difference.

    >>> normalise_name("©  Anna  MÜLLER "), normalise_name("anna mu\u0308ller")
    ('anna müller', 'anna müller')
    """
    text = " ".join(normalize("NFKC", normalize("NFKC", name).casefold()).split())
    return _COPYRIGHT.sub("", text).strip(" .,")


def names_in(text: str) -> set[str]:
    """The normalised names in a text. GBIF's publishers write several with `|` or `;` between them.

    >>> sorted(names_in("Anna Muster | Bob"))
    ['anna muster', 'anna muster | bob', 'bob']
    """
    return {name for part in (text, *re.split(r"[|;]", text)) if (name := normalise_name(part))}


def are_similar(name: str, text: str) -> bool:
    """Whether a text may mean a person, although it is not written in the same way. People are shown such texts.

    >>> are_similar("Anna Müller", "Muller, Anna"), are_similar("Anna Müller", "Anna Müller and Bob")
    (True, True)
    """
    from difflib import SequenceMatcher

    words, others = _words(name), _words(text)
    if not words or not others:
        return False
    if set(words) <= set(others) or (set(others) <= set(words) and len(others) > 1):
        return True
    if not {word[:3] for word in words} & {word[:3] for word in others}:  # difflib is slow
        return False
    return SequenceMatcher(None, " ".join(sorted(words)), " ".join(sorted(others))).ratio() >= SIMILAR


def _words(text: str) -> list[str]:
    plain = "".join(char for char in normalize("NFKD", text.casefold()) if not combining(char))
    return re.findall(r"\w+", plain)


def check_value(request: Request) -> Request:
    """Bring the value of a criterion into one spelling. Raises SettingsError when it cannot be one."""
    value = " ".join(request.value.split()) if request.kind == "creator" else request.value.strip()
    flag = f"--{request.kind}"
    if not (normalise_name(value) if request.kind == "creator" else value):
        raise SettingsError(f"{flag} is empty")
    if request.kind == "image":
        value = value.lower()
        if not re.fullmatch(r"[0-9a-f]{40}", value):
            raise SettingsError(
                f"{flag} {value}: an image_id has 40 hex digits; for the address of a photograph use --url"
            )
    if request.kind == "occurrence" and (found := _OCCURRENCE.match(value)):
        value = found[1]
    if request.kind == "url" and not re.match(r"(?i)[a-z][a-z0-9+.-]*://.*\w", value):
        raise SettingsError(f"{flag} {value}: an address begins with https:// or http://")
    return request.model_copy(update={"value": value})


def is_same(request: Request, other: Request) -> bool:
    """Whether two requests have one criterion, perhaps in two spellings."""
    spell = {"creator": normalise_name, "url": normalise_url}.get(request.kind, str)
    return request.kind == other.kind and spell(request.value) == spell(other.value)


class Criteria:
    """The criteria of some requests, to find their photographs in tables."""

    def __init__(
        self, requests: Iterable[Request], *, image_ids: Iterable[str] = (), pixels: Iterable[str] = ()
    ) -> None:
        """Take the criteria of requests, and further photographs by their keys or by the sha256 of their JPEG."""
        requests = list(requests)
        of = {kind: {r.value for r in requests if r.kind == kind} for kind in ("image", "url", "creator", "occurrence")}
        self.image_ids = of["image"] | {key for request in requests for key in request.image_ids} | set(image_ids)
        self.occurrences = of["occurrence"]
        self.names = {normalise_name(name) for name in of["creator"]}
        self.urls = {normalise_url(url) for url in of["url"]}
        self.recorded_urls = {url for request in requests for url in request.urls}
        self.pixels = {digest for request in requests for digest in request.jpeg_sha256} | set(pixels)
        self._is_named = cache(lambda text: bool(names_in(text) & self.names))

    def __bool__(self) -> bool:
        return bool(self.image_ids or self.occurrences or self.names or self.urls or self.pixels)

    def find(self, rows: "pl.DataFrame") -> "pl.Series":
        """Tell for each row of a table whether it is about one of the photographs.

        Of the columns image_id, gbif_id, jpeg_sha256, ADDRESSES and NAMES those are compared that the table has.
        """
        import polars as pl

        keys = (
            ("image_id", self.image_ids),
            ("gbif_id", self.occurrences),
            ("jpeg_sha256", self.pixels),
            ("url", self.recorded_urls),
        )
        found = pl.Series(values=[False], dtype=pl.Boolean).new_from_index(0, rows.height)
        for column, values in keys:
            if values and column in rows.columns:
                found |= rows[column].is_in(sorted(values)).fill_null(False)
        for column in NAMES:
            if self.names and column in rows.columns:
                found |= self._find_texts(rows[column], self._is_named)
        for column in ADDRESSES:
            if self.urls and column in rows.columns:
                found |= self._find_urls(rows[column])
        return found

    @staticmethod
    def _find_texts(
        some: "pl.Series", matches: Callable[[str], bool], column: "pl.Series | None" = None
    ) -> "pl.Series":
        """Tell where a column holds one of the texts among `some` of its values that match."""
        texts = [text for text in some.unique().to_list() if text and matches(text)]
        return (some if column is None else column).is_in(texts).fill_null(False)

    def _find_urls(self, column: "pl.Series") -> "pl.Series":
        import polars as pl

        # Python is slow, so it normalises only what is near to one of the criteria, or is not plain ASCII.
        near = {url.lower().removeprefix("//") for url in self.urls}
        is_plain = ~column.str.contains(r"[^\x00-\x7f]|%").fill_null(False)
        words = [max(found, key=_rarity) for url in sorted(near) if (found := re.findall(r"[a-z0-9]+", url))]
        plain = column.filter(
            is_plain & column.str.contains_any(words or ["\0"], ascii_case_insensitive=True).fill_null(False)
        ).unique()
        spelled = (
            plain.str.strip_chars()
            .str.to_lowercase()
            .str.replace(r"^https?://(?:[^/?#]*@)?(?:www\.)?", "")
            .str.replace(r"#.*", "")
            .str.replace(r"^([^/?]*):(?:80|443)?(/|\?|$)", "${1}${2}")
            .str.replace(r"/+(\?|$)", "${1}")
        )
        some = pl.concat([plain.filter(spelled.is_in(sorted(near))), column.filter(~is_plain)])
        return self._find_texts(some, lambda url: normalise_url(url) in self.urls, column)


def _rarity(word: str) -> tuple[bool, int]:
    """Long words with digits are rare in addresses. The names of hosts and of sizes are common."""
    return not word.isalpha(), len(word)
