"""Writes the tree of modules in README.md from the first sentence of each module's docstring.

    make tree

A test compares the two, so that the README never describes a file that is
gone or has changed its job.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PACKAGES = ("app", "mlx_model")
DESCRIPTION_COLUMN = 26
# The block that is replaced: the fenced one that starts with the first package.
BLOCK = re.compile(rf"^```\n{PACKAGES[0]}/.*?^```$", re.MULTILINE | re.DOTALL)


def first_sentence(module: Path) -> str:
    """The first sentence of a module's docstring, on one line, without its full stop."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"\.(?: |$)", paragraph)[0]


def tree_lines(folder: Path, depth: int = 0) -> list[str]:
    """One line for a package and each module in it; __init__.py speaks for the folder."""
    lines = [_line(depth, f"{folder.name}/", folder / "__init__.py")]
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.is_dir() and (path / "__init__.py").exists():
            lines += tree_lines(path, depth + 1)
        elif path.suffix == ".py" and path.name != "__init__.py":
            lines.append(_line(depth + 1, path.name, path))
    return lines


def _line(depth: int, name: str, module: Path) -> str:
    return f"{'  ' * depth + name:{DESCRIPTION_COLUMN}} {first_sentence(module)}"


def tree_block() -> str:
    """The whole fenced block as it belongs into the README."""
    packages = ["\n".join(tree_lines(ROOT / package)) for package in PACKAGES]
    return "```\n" + "\n\n".join(packages) + "\n```"


def replace_in_readme(pattern: re.Pattern[str], block: str, what: str) -> int:
    """Put `block` into README.md where `pattern` matches, and return the exit status."""
    readme = README.read_text(encoding="utf-8")
    if not pattern.search(readme):
        print(f"README.md has no {what}", file=sys.stderr)
        return 1
    README.write_text(pattern.sub(lambda _: block, readme), encoding="utf-8")
    return 0


def main() -> int:
    return replace_in_readme(BLOCK, tree_block(), f"fenced block that starts with {PACKAGES[0]}/")


if __name__ == "__main__":
    sys.exit(main())
