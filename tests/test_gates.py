"""Laws of the source tree, each a few lines."""

import ast
import hashlib
import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import jsonschema
import pytest

import instar
from instar.config import Config, dump, load, schema

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "instar"
EMBEDDED = SOURCE / "data" / "embedded"
VENDORED = SOURCE / "report" / "vendor"
RECIPES = sorted((SOURCE / "recipes").glob("*.yaml"))
FILES = sorted(SOURCE.rglob("*.py"))
MAX_LINES, MAX_PARAMETERS, MAX_EMBEDDED = 400, 7, 4_000_000
# PyTorch's collectives of objects pickle them.
OBJECT_COLLECTIVES = "(all_)?gather_object|broadcast_object_list|(scatter|send|recv)_object_list"
# Signatures that code written for Transformers calls: neither their length nor their order is ours to choose.
DROP_IN = {
    ("api/construction.py", "__init__"),
    ("api/hub.py", "create_model_card"),
    ("api/arguments/setters.py", "set_training"),
    ("api/arguments/setters.py", "set_logging"),
    ("api/arguments/setters.py", "set_dataloader"),
    ("api/training.py", "_maybe_log_save_evaluate"),
}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in FILES:
        yield path.relative_to(SOURCE), ast.parse(path.read_text(encoding="utf-8"))


def modules() -> Iterator[types.ModuleType]:
    for found in pkgutil.walk_packages(instar.__path__, "instar."):
        yield importlib.import_module(found.name)


def test_no_file_is_longer_than_400_lines():
    long = {str(path): count for path in FILES if (count := len(path.read_text("utf-8").splitlines())) > MAX_LINES}
    assert not long


def test_no_function_takes_more_than_seven_values():
    crowded = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                names = [argument.arg for argument in given if argument.arg not in ("self", "cls")]
                if len(names) > MAX_PARAMETERS and (path.as_posix(), node.name) not in DROP_IN:
                    crowded.append(f"{path}:{node.lineno} {node.name} takes {len(names)}")
    assert not crowded


def test_nothing_is_unpickled():
    forbidden = re.compile(
        r"\b(pickle|dill|joblib|shelve|marshal)\b|torch\.load\(|allow_pickle\s*=\s*True|trust_remote_code\s*=\s*True"
        rf"|\b({OBJECT_COLLECTIVES})\b"
    )
    found = []
    for path, tree in trees():
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [text for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for text in _imported(node)]
        calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        calls = [text for text in calls if not _reads_tensors_only(path, text)]
        found += [f"{path}: {text[:80]}" for text in names + calls if forbidden.search(text.split("'")[0])]
    assert not found


def _imported(node: ast.ImportFrom) -> list[str]:
    return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]


TASKS = {"mlm", "causal_lm", "classify", "masked_lm"}
TASK_CLASSES = {"MaskedLM", "CausalLM", "Classify", "MaskedLMTask", "CausalLMTask", "ClassifyTask"}


def _asks_which_task(node: ast.AST) -> bool:
    """A comparison with the name of a task or a head, a table by such names, or a test of a task's class."""
    if isinstance(node, ast.Compare):
        named = [part for side in (node.left, *node.comparators) for part in ast.walk(side)]
        return any(isinstance(part, ast.Constant) and part.value in TASKS for part in named)
    if isinstance(node, ast.Dict):
        return sum(isinstance(key, ast.Constant) and key.value in TASKS for key in node.keys) > 1
    if isinstance(node, ast.MatchValue):
        return isinstance(node.value, ast.Constant) and node.value.value in TASKS
    is_test = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"
    return is_test and any(isinstance(part, ast.Name) and part.id in TASK_CLASSES for part in ast.walk(node.args[1]))


@pytest.mark.parametrize(
    "code",
    ['kind == "mlm"', 'head in ("classify",)', "isinstance(task, Classify | int)", '{"mlm": 1, "classify": 2}[x]'],
)
def test_a_question_for_the_task_is_seen(code: str) -> None:
    assert any(map(_asks_which_task, ast.walk(ast.parse(code))))


def test_nobody_asks_which_task_this_is() -> None:
    """A task's facts stand in its own file; heads are the model's."""
    asked = [
        f"{path}:{node.lineno}"
        for path, tree in trees()
        if path.parts[0] not in ("task", "model")
        for node in ast.walk(tree)
        if _asks_which_task(node)
    ]
    assert not asked


def test_only_the_engine_talks_to_other_processes():
    """Everything else asks `trainer.runtime`, or `trainer.parallel.group` where there is no runtime yet."""
    found = []
    for path, tree in trees():
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [text for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for text in _imported(node)]
        names += [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        found += [f"{path}: {text}" for text in names if re.match(r"torch\.distributed\b(?!\.tensor\b)", text)]
    engine = ("trainer/runtime.py", "trainer/parallel/")
    assert not [text for text in found if not text.startswith(engine)]
    assert found, "the engine itself was not seen"


def _reads_tensors_only(path: Path, call: str) -> bool:
    """The one place that reads the `.pt` files of Transformers, by the reader that runs nothing."""
    place = str(path) == "api/checkpoints/plain.py"
    return place and call.startswith("torch.load(") and call.endswith("weights_only=True)")


def test_yaml_is_read_in_one_place():
    readers = {str(path) for path, tree in trees() for node in ast.walk(tree) if _imports(node, ("yaml", "ruamel"))}
    assert readers == {"config/tree.py"}


def _imports(node: ast.AST, packages: tuple[str, ...]) -> bool:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    return any(name.split(".")[0] in packages for name in names)


def choices(annotation: Any) -> Iterator[type[Config]]:
    """The models of every union inside a type."""
    if get_origin(annotation) is Annotated:
        yield from choices(annotation.__origin__)
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            inner = member.__origin__ if get_origin(member) is Annotated else member
            if isinstance(inner, type) and issubclass(inner, Config):
                yield inner
            else:
                yield from choices(inner)


def test_a_choice_lives_in_the_file_of_its_kind_and_says_what_it_is():
    for module in modules():
        for value in vars(module).values():
            for choice in choices(value):
                kind = choice.model_fields.get("kind")
                if kind is not None and get_origin(kind.annotation) is Literal:
                    (name,) = get_args(kind.annotation)
                    assert Path(inspect.getfile(choice)).stem == name, choice
                    assert kind.default == name, f"{choice}: `kind` has its only value as default"
                assert (choice.__doc__ or "").strip(), f"{choice} says nothing about itself"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_reads_fits_the_schema_and_dumps_equal(recipe):
    from instar.config.tree import Reader
    from instar.run.config import RunConfig

    loaded = load(recipe, RunConfig)
    assert load(dump(loaded), RunConfig).value == loaded.value
    validator = jsonschema.Draft202012Validator(schema(RunConfig))
    assert not [error.message for error in validator.iter_errors(Reader("recipe").read(recipe.read_text()).plain())]
    assert recipe.read_text(encoding="utf-8").startswith("#"), "the opening comment is what `instar init` lists"


def test_embedded_data_is_what_data_md_says():
    described = (ROOT / "DATA.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| ([\d,]+) \| `([0-9a-f]{64})` \|", described, flags=re.MULTILINE)
    found = {
        path.name: (f"{path.stat().st_size:,}", hashlib.sha256(path.read_bytes()).hexdigest())
        for path in (*EMBEDDED.iterdir(), *VENDORED.iterdir())
        if path.suffix in {".gz", ".txt"}
    }
    assert {name: (size, digest) for name, size, digest in rows} == found
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir() if path.is_file()) <= MAX_EMBEDDED
    assert all(path.read_bytes()[4:8] == bytes(4) for path in EMBEDDED.glob("*.gz")), "a gzip header holds a time"


def test_the_wheel_holds_data_and_recipes():
    """What hatch packs is the package folder, less what git ignores."""
    tomllib = importlib.import_module("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["src/instar"]
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    packed = {"recipes", "embedded", "py.typed", *(path.name for path in EMBEDDED.iterdir())}
    assert not [pattern for pattern in ignored if any(Path(name).match(pattern.strip("/")) for name in packed)]


def test_every_dependency_has_a_pinned_version():
    tomllib = importlib.import_module("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[<>=\[;]", wish)[0].strip().lower().replace("_", "-") for wish in wanted}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert names <= {name.lower().replace("_", "-") for name in pins}
    assert pins["torch"] == "2.13.0"
