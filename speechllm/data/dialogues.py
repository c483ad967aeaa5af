"""Dialogue lines of the game Fish Fillets with their translations, Italian and Czech among them.

The Debian package fillets-ng-data (GPL-2) holds every line in Czech, its own language, in English, and
translated by volunteers: `dialogId("ID", "font", "English")` is followed by `dialogStr("translation")`.
"""

import re
from pathlib import Path

from speechllm.data.debian import unpacked

_SCRIPTS = "usr/share/games/fillets-ng/script"
_LINE = re.compile(
    r'dialogId\("[^"]*",\s*"[^"]*",\s*"((?:[^"\\]|\\.)*)"\)\s*dialogStr\("((?:[^"\\]|\\.)*)"\)', re.DOTALL
)


def parse(script: str) -> list[tuple[str, str]]:
    """Pairs (English, translation) of a `dialogs_LANG.lua`; lines without words in either are left out."""
    pairs = [(_spoken(english), _spoken(theirs)) for english, theirs in _LINE.findall(script)]
    return [pair for pair in pairs if all(re.search(r"[^\W\d_]{2}", side) for side in pair)]


def _spoken(text: str) -> str:
    text = re.sub(r"\\(.)", r"\1", text).replace("’", "'").replace(" -- ", " - ")
    return " ".join(re.sub(r"\.\.+|…", " ... ", text).replace(" ... ", "... ").split())


def pairs(lang: str) -> list[tuple[str, str]]:
    """All pairs (English, `lang`) of the game. Raises DataError when the package cannot be had."""
    folder: Path = unpacked(["fillets-ng-data"], below=_SCRIPTS) / _SCRIPTS
    found: dict[tuple[str, str], None] = {}
    for path in sorted(folder.glob(f"*/dialogs_{lang}.lua")):
        found.update(dict.fromkeys(parse(path.read_text(encoding="utf-8", errors="replace"))))
    return list(found)
