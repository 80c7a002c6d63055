"""Tables that fit the terminal: columns give way where text can be folded, and no word is torn for it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from storage.validation import printable

# A line may end at a space, inside a reason code, a path or an address, and after a letter's dash or dot in a name.
_FOLD = re.compile(r"\s+|(?<=[_/@])|(?<=[A-Za-z][-.])")
_GAP = 2  # spaces between columns


@dataclass(frozen=True)
class TextTable:
    """Rows under headings. The first `text_columns` hold text, the others figures, which stand to the right.

    Where not even the longest words fit beside each other, a row is a sentence.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1

    def __post_init__(self) -> None:
        """Cells name files and what sources say."""
        object.__setattr__(self, "rows", [[printable(cell) for cell in row] for row in self.rows])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if self.title:
            yield Text(self.title, style="italic")
        widths = self._widths(options.max_width)
        if widths is None:
            yield from self._listed()
        else:
            yield self._table(widths)
        yield ""

    def _widths(self, room: int) -> list[int] | None:
        """A width for each column: what its text needs, and less of the widest as long as the sum is too much."""
        columns = list(zip(self.headings, *self.rows, strict=True))
        widths = [max(map(cell_len, column)) for column in columns]
        for pieces in (str.split, _pieces):  # a code is folded only where no sentence can be
            least = [max(cell_len(piece) for cell in column for piece in pieces(cell) or [""]) for column in columns]
            while sum(widths) + _GAP * (len(widths) - 1) > room:
                foldable = [number for number, width in enumerate(widths) if width > least[number]]
                if not foldable:
                    break
                widths[max(foldable, key=lambda number: widths[number])] -= 1
            else:
                return widths
        return None

    def _table(self, widths: Sequence[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
        for number, (heading, width) in enumerate(zip(self.headings, widths, strict=True)):
            side: JustifyMethod = "left" if number < self.text_columns else "right"
            table.add_column(Text(folded(heading, width)), justify=side, width=width)
        for row in self.rows:
            table.add_row(*(Text(folded(cell, width)) for cell, width in zip(row, widths, strict=True)))
        return table

    def _listed(self) -> Iterator[Text]:
        for first, *others in self.rows:
            said = (f"{heading} {value}" for heading, value in zip(self.headings[1:], others, strict=True) if value)
            yield Text(f"{first}: {', '.join(said)}")


def _pieces(text: str) -> list[str]:
    """What stays on one line."""
    return _FOLD.split(text)


def folded(text: str, width: int) -> str:
    """Text in lines of at most `width` terminal cells; a piece that is longer has a longer line."""
    lines, start = [""], 0
    for piece in _pieces(text):
        start = text.index(piece, start)
        gap = " " if start and text[start - 1].isspace() else ""
        if cell_len(lines[-1] + gap + piece) <= width or not lines[-1]:
            lines[-1] += gap + piece if lines[-1] else piece
        else:
            lines.append(piece)
        start += len(piece)
    return "\n".join(lines)
