"""Draw what `treadle demo` shows on a terminal as the picture at the top of the README.

    python docs/demo_picture.py docs/demo.svg

The program runs the demo, reads the colours of its last frame and writes an SVG. Blocks such as the
bars are drawn as rectangles, so that the picture does not depend on the reader's fonts. The times
in it are those of the machine that draws it.
"""

from __future__ import annotations

import html
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

SENTENCE = "I love AI"
FONT = "DejaVu Sans Mono, Menlo, Consolas, monospace"
CELL, LINE, SIZE, EDGE = 8.4, 18.0, 14, 16  # pixels: a character, a line, the letters, the margin
INK, FAINT, GROUND = "#E6E6E6", "#9A9A9A", "#1B1D23"
LEVELS = (0, 95, 135, 175, 215, 255)  # of the colour cube of 256-colour terminals
BARS = {chr(0x2588 + n): (8 - n) / 8 for n in range(8)}  # full to one eighth, from the left
COLUMNS = {chr(0x2580 + n): n / 8 for n in range(1, 9)}  # one eighth to full, from below

Piece = tuple[str, str, bool]  # a text, its colour, whether it is bold


def colour(number: int) -> str:
    """The colour of the 256-colour palette, as terminals show it."""
    if number >= 232:
        return "#" + f"{8 + 10 * (number - 232):02x}" * 3
    red, rest = divmod(number - 16, 36)
    green, blue = divmod(rest, 6)
    return "#" + "".join(f"{LEVELS[part]:02x}" for part in (red, green, blue))


def pieces(line: str) -> list[Piece]:
    """A line of the terminal as texts of one colour each."""
    found: list[Piece] = []
    ink, bold = INK, False
    for text, code in re.findall(r"([^\x1b]*)(?:\x1b\[([\d;]*)m)?", line):
        if text:
            found.append((text, ink, bold))
        if code.startswith("38;5;"):
            ink = colour(int(code[5:]))
        elif code:
            ink, bold = (FAINT if code == "2" else INK), code == "1"
    return found


def draw(lines: list[str]) -> str:
    """The SVG of these lines."""
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines]
    width = 2 * EDGE + CELL * max(map(len, plain))
    height = 2 * EDGE + LINE * len(lines)
    title = html.escape(f"treadle demo {SENTENCE!r}: {plain[0]}")
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{title}</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>',
        f'<g font-family="{FONT}" font-size="{SIZE}" xml:space="preserve">',
    ]
    for row, line in enumerate(lines):
        x, y = float(EDGE), EDGE + LINE * row
        for text, ink, bold in pieces(line):
            parts += _run(text, ink, bold, x, y)
            x += CELL * len(text)
    return "\n".join([*parts, "</g>", "</svg>"]) + "\n"


def _run(text: str, ink: str, bold: bool, x: float, y: float) -> list[str]:
    """A text of one colour: letters as text, blocks as rectangles, neighbours joined."""
    parts = []
    for match in re.finditer(r"[\u2581-\u258f]+|[^\u2581-\u258f]+", text):
        left, found = x + CELL * match.start(), match.group()
        if unicodedata.name(found[0]).endswith("BLOCK"):
            if set(found) <= set(BARS) and (len(found) > 1 or found not in COLUMNS):
                part = CELL * sum(BARS[character] for character in found)
                parts.append(_box(left, y + 3, part, LINE - 5, ink))
            else:
                for place, character in enumerate(found):
                    high = (LINE - 3) * COLUMNS[character]
                    top = y + LINE - 1 - high
                    parts.append(_box(left + CELL * place, top, CELL - 1, high, ink))
        elif found.strip():
            start = len(found) - len(found.lstrip())
            weight = ' font-weight="bold"' if bold else ""
            parts.append(
                f'<text x="{left + CELL * start:.1f}" y="{y + 14:.0f}" fill="{ink}"{weight} '
                f'textLength="{CELL * len(found.strip()):.1f}">{html.escape(found.strip())}</text>'
            )
    return parts


def _box(x: float, y: float, width: float, height: float, ink: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{ink}"/>'


def main() -> None:
    """Run the demo and write the picture."""
    command = [sys.executable, "-m", "treadle", "demo", "--color", SENTENCE]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    prompt = f'\x1b[2m$\x1b[0m treadle demo "{SENTENCE}"'
    Path(sys.argv[1]).write_text(draw([prompt, *shown.rstrip().split("\n")]), encoding="utf-8")


if __name__ == "__main__":
    main()
