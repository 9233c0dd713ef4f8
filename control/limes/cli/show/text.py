"""Owns how long text is laid out in lines of a terminal.

Invariant: what does not fit is cut at the end, and how much that was is said.
"""

from typing import Final

NO_BREAK: Final = 16  # room for "… +12345 more"


def folded(text: str, room: int, rows: int) -> list[str]:
    """Return the text in at most `rows` lines of `room` columns, broken at spaces if it can be."""
    lines: list[str] = []
    rest = text
    while len(rest) > room and len(lines) < rows:
        cut = _cut(rest, room)
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    if len(lines) < rows:
        return [*lines, rest] if rest or not lines else lines
    if rest:
        kept = lines[-1][: max(1, room - NO_BREAK)]
        lines[-1] = f"{kept}… +{len(rest) + len(lines[-1]) - len(kept)} more"
    return lines


def hanging(text: str, room: int, rows: int, indent: int) -> str:
    """Return the text folded, the later lines indented."""
    return ("\n" + " " * indent).join(folded(text, room, rows))


def shortened(text: str, room: int) -> str:
    """Return the beginning of a text, to the end of a word if it can be; a mark says it goes on."""
    if len(text) <= room:
        return text
    cut = text.rfind(" ", room // 2, room)
    return text[: cut if cut > 0 else room - 1].rstrip(" ,;:(") + "…"


def _cut(text: str, room: int) -> int:
    """Return where to break: at a space, else after a slash, else anywhere."""
    for sign in " /":
        cut = text.rfind(sign, room // 2, room + (sign == " "))
        if cut > 0:
            return cut + (sign == "/")
    return room


def plural(count: int, one: str, many: str = "") -> str:
    """Return the count with its word."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
