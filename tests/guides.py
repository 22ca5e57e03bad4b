"""Reads the commands of the guides, and splits them into programs and their arguments."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = re.compile(r"(aitax|ray|serve) [^─►]+$")
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A command of a guide. `words` are the program and its arguments, without what sets variables before it."""

    page: str
    words: list[str]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def pages() -> list[Path]:
    """All pages that people read: those at the top, and the guides."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The language and the text of each block of a page."""
    for _, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        yield language, text


def commands(page: Path) -> Iterator[Command]:
    """The commands of the blocks that are marked `bash`, and of lines elsewhere that begin with one of our programs."""
    for language, text in blocks(page):
        for line in text.replace("\\\n", " ").splitlines():
            if language == "bash" or (language == "" and OURS.match(line)):
                words = [word for word in shlex.split(line, comments=True) if word != "&"]
                while words and re.match(r"[A-Z]\w*=", words[0]):
                    del words[0]
                if words:
                    yield Command(str(page.relative_to(ROOT)), words)
