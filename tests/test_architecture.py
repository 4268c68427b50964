"""The rules of the source tree that can be read from the source alone, without importing it.

import-linter checks the layers (see pyproject.toml); the hard rules are repeated here, where no
further tool is needed, together with the sizes, the README's tree and the lock files.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.readme_tree import tree_block

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "mlx_model")
MODULES = sorted(
    path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
)
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 80
QT_PACKAGES = {"PySide6", "shiboken6", "qtpy", "qtawesome"}
MLX_PACKAGES = {"mlx", "mlx_lm"}
LOCKS = (ROOT / "requirements.lock", ROOT / "tools" / "setup" / "test-requirements.lock")

every_module = pytest.mark.parametrize("module", MODULES, ids=str)


def parse(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), str(module))


def imports(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """(module, name) of every import at any depth; the name is None for `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are banned"
            for alias in node.names:
                yield str(node.module), alias.name


def imported_packages(tree: ast.Module) -> set[str]:
    return {module.partition(".")[0] for module, _ in imports(tree)}


def public_names() -> set[str]:
    """What mlx_model/__init__.py lists in `__all__`."""
    for node in parse(Path("mlx_model/__init__.py")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return set(ast.literal_eval(node.value))
    raise AssertionError("mlx_model/__init__.py has no literal __all__")


@every_module
def test_a_module_fits_in_the_head(module: Path) -> None:
    lines = (ROOT / module).read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_MODULE_LINES, f"{module} has {lines} lines: split it by noun"


@every_module
def test_a_function_fits_on_a_screen(module: Path) -> None:
    long = {
        node.name: length
        for node in ast.walk(parse(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert not long, f"{module}: longer than {MAX_FUNCTION_LINES} lines: {long}"


@every_module
def test_a_module_says_what_it_owns(module: Path) -> None:
    assert ast.get_docstring(parse(module)), f"{module} opens without a docstring"


@every_module
def test_the_library_knows_no_qt_and_the_window_no_mlx(module: Path) -> None:
    forbidden = QT_PACKAGES | {"app"} if module.parts[0] == "mlx_model" else MLX_PACKAGES
    assert not imported_packages(parse(module)) & forbidden


@every_module
def test_only_inference_uses_the_library_and_only_its_public_names(module: Path) -> None:
    if module.parts[0] != "app":
        return
    used = {
        (source, name)
        for source, name in imports(parse(module))
        if source.partition(".")[0] == "mlx_model"
    }
    if module.parts[:2] != ("app", "inference"):
        assert not used, f"{module}: only app/inference may use mlx_model"
        return
    private = {f"{source}.{name}" for source, name in used if name not in public_names()}
    assert not private, f"{module} uses names that mlx_model does not export: {private}"


def tree_in_readme() -> dict[str, str]:
    """Path -> description, from the block in README.md whose first line is the folder `app/`."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```\n(app/.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert block, "README.md has no tree that starts with app/"
    described: dict[str, str] = {}
    folders: list[str] = []
    for line in block[1].splitlines():
        if not line.strip():
            continue
        name, _, description = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        folders = folders[:depth]
        path = "".join(folders) + name
        assert path not in described, f"README's tree has {path} twice"
        described[path] = description.strip()
        if name.endswith("/"):
            folders.append(name)
    return described


def test_the_readme_has_one_line_for_each_module() -> None:
    described = tree_in_readme()
    # A folder's own line speaks for its __init__.py.
    real = {
        f"{module.parent}/" if module.name == "__init__.py" else str(module) for module in MODULES
    }
    missing = sorted(real - set(described))
    assert not missing, f"README's tree lacks {missing}"
    stale = sorted(path for path in set(described) - real if path.startswith(PACKAGES))
    assert not stale, f"README's tree describes what is not there: {stale}"
    assert tree_block() in (ROOT / "README.md").read_text(encoding="utf-8"), "run `make tree`"
    empty = sorted(path for path, text in described.items() if not text)
    assert not empty, f"README's tree says nothing about {empty}"


def test_what_the_readme_points_to_is_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", readme, re.MULTILINE)
    anchors = {
        "#" + re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
    }
    links = re.findall(r"\]\(([^)\s]+)\)", readme)
    assert links
    dead = [
        link
        for link in links
        if "://" not in link and link not in anchors and not (ROOT / link).exists()
    ]
    assert not dead, f"README.md points to what is not there: {dead}"


def test_the_tests_that_the_readme_names_are_there() -> None:
    """Those are named by their file, or by file and function."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)(?:::(test_\w+))?`", readme))
    assert any(function for _, function in named)
    words: dict[str, str] = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        words[file.stem] = words.get(file.stem, "") + file.read_text(encoding="utf-8")
    stale = sorted(
        f"{file}::{function}"
        for file, function in named
        if (f"def {function}(" if function else "def test_") not in words.get(file, "")
    )
    assert not stale, f"README.md names tests that are not there: {stale}"


def pins(lock: Path) -> list[tuple[Requirement, int]]:
    """Each pinned requirement of a lock file with the number of its hashes."""
    found = []
    for entry in re.split(r"\n(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8")):
        head = entry.partition("\\")[0].strip()
        found.append((Requirement(head), entry.count("--hash=sha256:")))
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_every_package_with_hashes_and_names_no_address(lock: Path) -> None:
    for requirement, hashes in pins(lock):
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        assert hashes, f"{requirement.name} has no hash"
        assert canonicalize_name(requirement.name) != "torch"
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert "index-url" not in text


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_the_lock_satisfies_pyproject(python: str, system: str) -> None:
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_machine": "arm64" if system == "darwin" else "x86_64",
    }
    locked = {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for lock in LOCKS
        for requirement, _ in pins(lock)
        if requirement.marker is None or requirement.marker.evaluate(machine)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    for requirement in map(Requirement, wanted):
        if requirement.marker is None or requirement.marker.evaluate(machine):
            version = locked.get(canonicalize_name(requirement.name))
            assert version, f"{requirement.name} is not locked for {system}, Python {python}"
            assert version in requirement.specifier, f"{requirement} but {version} is locked"
