"""Draws what a command printed as an SVG picture of a terminal.

usage: edgetune demo 2>&1 | python3 models/make/demo_svg.py "cargo run --release -- demo" > models/demo.svg
"""

import html
import sys

LINE = 19
WIDTH = 8.05


def main() -> None:
    command = sys.argv[1]
    lines = [f"$ {command}"] + [line.rstrip() for line in sys.stdin]
    columns = max(map(len, lines))
    width, height = int(columns * WIDTH + 40), len(lines) * LINE + 36
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">')
    print(f'<rect width="{width}" height="{height}" rx="8" fill="#16181d"/>')
    print('<g font-family="ui-monospace, DejaVu Sans Mono, monospace" font-size="13.3" xml:space="preserve">')
    for number, line in enumerate(lines):
        colour = "#7ee787" if line.startswith("accuracy") else "#79c0ff" if line.startswith("$") else "#c9d1d9"
        print(f'<text x="20" y="{30 + number * LINE}" fill="{colour}">{html.escape(line)}</text>')
    print("</g>\n</svg>")


main()
