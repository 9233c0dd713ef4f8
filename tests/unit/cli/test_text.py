"""Long text in lines: what does not fit is cut, and counted."""

from hypothesis import given
from hypothesis import strategies as st
from limes.cli.show.text import folded, hanging, plural, shortened

WORDS = st.text(st.sampled_from("ab /"), max_size=300).map(str.strip)


def kept(line: str) -> str:
    return line.replace(" ", "")


@given(WORDS, st.integers(24, 60))
def test_nothing_is_lost_with_room_enough(text: str, room: int) -> None:
    """Folding changes only the blanks at which it breaks."""
    lines = folded(text, room, 1000)
    assert all(len(line) <= room for line in lines)
    assert kept("".join(lines)) == kept(text)


@given(WORDS, st.integers(24, 60), st.integers(1, 4))
def test_it_never_takes_more_lines_than_it_may(text: str, room: int, rows: int) -> None:
    """However long the text is."""
    lines = folded(text, room, rows)
    assert 1 <= len(lines) <= rows
    assert all(len(line) <= room for line in lines)


def test_what_is_cut_off_is_counted() -> None:
    """The characters shown and those said to be missing are all there were."""
    text = "x" * 500
    *whole, last = folded(text, 40, 3)
    shown, _, missing = last.partition("… +")
    assert sum(map(len, whole)) + len(shown) + int(missing.split()[0]) == len(text)


def test_it_breaks_at_spaces_and_then_after_slashes() -> None:
    """Words stay whole where they can, paths break between folders."""
    assert folded("one two three four", 12, 9) == ["one two", "three four"]
    assert folded("/usr/lib/python3/dist-packages", 24, 9) == ["/usr/lib/python3/", "dist-packages"]


def test_later_lines_hang() -> None:
    """They are indented below the first."""
    assert hanging("one two three four", 12, 9, 3) == "one two\n   three four"


def test_one_is_singular() -> None:
    """A count and its word agree; thousands are separated."""
    assert plural(1, "alert") == "1 alert"
    assert plural(1200, "alert") == "1,200 alerts"
    assert plural(2, "entry", "entries") == "2 entries"


def test_a_shortened_text_ends_with_a_word_and_a_mark() -> None:
    """Within the room; a text that fits is left alone."""
    assert shortened("connected to many hosts", 40) == "connected to many hosts"
    assert shortened("connected to many hosts", 20) == "connected to many…"
    assert shortened("connected, and more", 12) == "connected…"
    assert shortened("a" * 50, 20) == "a" * 19 + "…"


@given(st.text(alphabet="ab ,", max_size=60), st.integers(4, 50))
def test_a_shortened_text_fits_and_is_a_beginning(text: str, room: int) -> None:
    """Never longer than the room, never without the mark."""
    found = shortened(text, room)
    assert len(found) <= room
    assert found == text or (found.endswith("…") and text.startswith(found[:-1]))
