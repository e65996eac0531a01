"""Rows whose cells are separated by runs of spaces, as in tables for the eye."""

import csv
from collections.abc import Iterator


def cells_of_line(line: str) -> list[str]:
    """Return the cells of ``line``; one that holds a space is quoted.

    Raises:
        csv.Error: a quote is not closed, or a cell is too long.
    """
    return next(csv.reader([line.strip(" \r\n")], delimiter=" ", skipinitialspace=True, strict=True), [])


class SpacedRows:
    """The rows of ``lines``, one a line, as a reader of the ``csv`` module gives them."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.line_num = 0

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        line = next(self._lines)
        self.line_num += 1
        return cells_of_line(line)
