"""Runs the commands below with a real polyhead and draws what they print as session.svg, an animated terminal.

    python record.py POLYHEAD [FOLDER]      # the program, and a folder to work in that holds my-data (else it is written first)

Lines appear in the order they were printed. Pauses longer than MOST seconds are cut to that, and the folder's path is left out of
what is printed; nothing else is changed. Without animations, or where the reader asks for less motion, the last lines are shown.
Needs Python 3.9 and no packages.
"""
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.sax.saxutils import escape

COMMANDS = [
    "polyhead data check my-data | head -12",
    "polyhead train my-data --name first --backbone resnet18 --imgsz 96 --epochs 5 --fraction 0.4",
    "polyhead predict runs/train/first my-data/test --out answers",
    "head -1 answers/predictions.jsonl",
]
COLUMNS, ROWS = 116, 27
WIDTH, HEIGHT = 7.0, 16  # of a character cell, in pixels
MOST, TYPING, LAST = 0.8, 1.2, 6.0  # seconds


def record(program, folder):
    """Pairs of seconds since the line before and a line of text."""
    lines = []
    with tempfile.TemporaryDirectory() as path:
        (Path(path) / "polyhead").symlink_to(program)
        environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
        for command in COMMANDS:
            lines.append((TYPING, f"$ {command}"))
            before = time.monotonic()
            run = subprocess.Popen(["bash", "-c", f"{command} 2>&1"], cwd=folder, env=environment, text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            for line in run.stdout:
                now = time.monotonic()
                lines.append((min(now - before, MOST), line.rstrip("\n").replace(f"{folder}/", "")))
                before = now
            if run.wait() != 0:
                sys.exit(f"{command}: exit code {run.returncode}")
    return lines


def wrapped(lines):
    """The same as rows of a terminal."""
    for wait, line in lines:
        pieces = [line[i:i + COLUMNS] for i in range(0, len(line), COLUMNS)] or [""]
        for number, piece in enumerate(pieces):
            yield (wait if number == 0 else 0.0), piece


def draw(rows):
    times, now = [], 0.0
    for wait, _ in rows:
        now += wait
        times.append(now)
    total = now + LAST
    hidden = max(0, len(rows) - ROWS)
    # How many rows have been scrolled away, by moment.
    steps = {0.0: 0}
    for number, at in enumerate(times):
        steps[at] = max(0, number + 1 - ROWS)
    frames = {f"{100 * at / total:.2f}%": up for at, up in steps.items()} | {"100%": hidden}
    keyframes = [f"{at}{{transform:translateY({-up * HEIGHT}px)}}" for at, up in frames.items()]
    width, height = round(COLUMNS * WIDTH) + 24, ROWS * HEIGHT + 20
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
           "<style>text{font:11.6px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d0d4d8;white-space:pre}",
           f".p{{fill:#7ec699}}.s{{transform:translateY({-hidden * HEIGHT}px)}}",
           "@media (prefers-reduced-motion:no-preference){",
           f".s{{animation:s {total:.1f}s step-end infinite}}text{{animation:a {total:.1f}s step-end infinite}}}}",
           "@keyframes s{" + "".join(keyframes) + "}"]
    # Rows that appear at the same moment share their keyframes.
    names = {}
    for at in times:
        if at not in names:
            names[at] = f"a{len(names)}"
            out.append(f"@keyframes {names[at]}{{0%{{opacity:0}}{100 * at / total:.2f}%{{opacity:1}}}}"
                       f".{names[at]}{{animation-name:{names[at]}}}")
    out += ["</style>", f'<rect width="{width}" height="{height}" rx="6" fill="#1b1e22"/>',
            f'<svg x="12" y="10" width="{width - 24}" height="{ROWS * HEIGHT}"><g class="s">']
    for number, ((_, row), at) in enumerate(zip(rows, times)):
        kind = " p" if row.startswith("$ ") else ""
        length = f' textLength="{len(row) * WIDTH:g}" lengthAdjust="spacingAndGlyphs"' if row.strip() else ""
        out.append(f'<text class="{names[at]}{kind}" y="{number * HEIGHT + 12}"{length} xml:space="preserve">{escape(row)}</text>')
    return "\n".join(out + ["</g></svg>", "</svg>", ""])


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()).resolve()
    if not (folder / "my-data").is_dir():
        subprocess.run([program, "data", "digits", "my-data"], cwd=folder, check=True)
    svg = draw(list(wrapped(record(program, folder))))
    Path(__file__).with_name("session.svg").write_text(svg)
    print(f"session.svg: {len(svg.encode()) / 1000:.1f} kB")


if __name__ == "__main__":
    main()
