"""A recipe: YAML → stages in order; `$name` is a value or an earlier step, `for:` repeats steps."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from embprobe.errors import UserError, did_you_mean
from embprobe.recipe.bounded import DAMAGE, MOST_TEXT, load_yaml
from embprobe.stage import Stage
from embprobe.stages import STAGES

PACKAGE = Path(__file__).parent.parent
SHIPPED = (PACKAGE / "recipes", PACKAGE.parent / "recipes")
# A few kilobytes of YAML can ask for 10^10 steps: what they grow to is counted before it is made.
MOST = {"steps": 10_000, "rounds of `for`": 10_000, "items in lists": 1_000_000, "characters": 10_000_000}
MOST_SET = 1000  # values in `set`
NAME = re.compile(r"\$(\w+)|\$\{(\w+)\}")

Value = Any  # Any: what YAML holds, with Ref for earlier steps
Environment = dict[str, Value]


@dataclass(frozen=True)
class Ref:
    """The artefact of an earlier step."""

    index: int


class Placed(str):
    """A word from a recipe or from --set, which knows where its relative paths start."""

    base: Path

    @classmethod
    def at(cls, base: Path, word: str) -> "Placed":
        placed = cls(word)
        placed.base = base
        return placed


@dataclass(frozen=True)
class Step:
    """One stage of a recipe, with references not yet resolved."""

    cls: type[Stage]
    label: str
    options: dict[str, Value]
    unset: str | None = None  # the mistake to tell when the step is asked for


@dataclass
class Recipe:
    """Steps in order."""

    path: Path
    about: str
    steps: list[Step] = field(default_factory=list)
    grown: Counter[str] = field(default_factory=Counter, repr=False)

    def grow(self, what: str, count: int, place: str) -> None:
        """Counts what is about to be made. Raises UserError for more than anybody means."""
        self.grown[what] += count
        if self.grown[what] > MOST[what]:
            raise UserError(f"{place}: the recipe grows to more than {MOST[what]:,} {what}; make it smaller")


def locate(word: str) -> Path:
    """A recipe's file: a path, or the name of one that ships with embprobe."""
    if Path(word).is_file():
        return Path(word)
    shipped = {path.stem: path for folder in SHIPPED for path in folder.glob("*.yaml")}
    if word in shipped:
        return shipped[word]
    names = sorted(shipped)
    raise UserError(
        f"there is no recipe {word}{did_you_mean(word, names)}; give a YAML file or one of {', '.join(names)}"
    )


def assigned(words: Sequence[str]) -> dict[str, Value]:
    """`key=value` words as names and YAML values. Raises UserError."""
    values = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"--set {word!r} has no `=`; write --set key=value")
        values[key] = _scalar(text)
    return values


def load_recipe(path: Path, values: Mapping[str, Value]) -> Recipe:
    """A recipe with some of its `set:` values replaced. Raises UserError for what it can't mean."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MOST_TEXT + 1)
        document = load_yaml(text)
    except UserError as error:
        raise UserError(f"{path}: {error}; make it simpler") from None
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); check the path") from None
    except DAMAGE as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where} is not YAML ({getattr(error, 'problem', error)}); mend it") from None
    if not isinstance(document, dict) or not isinstance(document.get("steps"), list):
        raise UserError(f"{path} is no recipe: it needs a list called `steps`")
    keys = ("about", "set", "steps")
    for key in document:
        if key not in keys:
            raise UserError(f"{path}: unknown key {key!r}{did_you_mean(str(key), keys)}; known: {', '.join(keys)}")
    base = path.absolute().parent
    known = document.get("set") or {}
    if not isinstance(known, dict):
        raise UserError(f"{path}: `set` must map names to values")
    _check_names(known, f"{path}: `set`")
    if len(known) > MOST_SET:
        raise UserError(f"{path}: `set` has {len(known):,} values; at most {MOST_SET:,} make sense")
    environment = {k: _placed(v, base) for k, v in known.items()}
    for key, value in values.items():
        if key not in known:
            raise UserError(
                f"{path} has nothing to set called {key!r}{did_you_mean(key, known)}; known: {', '.join(known)}"
            )
        environment[key] = _placed(value, Path.cwd())
    recipe = Recipe(path, str(document.get("about") or ""))
    _expand(document["steps"], environment, recipe, base, "")
    return recipe


def _scalar(text: str) -> Value:
    try:
        return load_yaml(text)
    except UserError as error:
        raise UserError(f"--set {text[:40]!r}: {error}; give a simpler value") from None
    except DAMAGE:
        return text


def _check_names(names: Mapping[Value, Value], place: str) -> None:
    """Raises UserError for a name that is a number, a date, or nothing: `$name` could never find it."""
    for name in names:
        if not isinstance(name, str):
            raise UserError(
                f"{place} has the name {name!r}, which is no word; write it in quotes, or call it otherwise"
            )


def _placed(value: Value, base: Path) -> Value:
    if isinstance(value, str):
        return Placed.at(base, value)
    if isinstance(value, list):
        return [_placed(v, base) for v in value]
    if isinstance(value, dict):
        return {k: _placed(v, base) for k, v in value.items()}
    return value


def _expand(entries: list[Value], environment: Environment, recipe: Recipe, base: Path, where: str) -> None:
    for number, entry in enumerate(entries, 1):
        place = f"{recipe.path}, step {where}{number}"
        if not isinstance(entry, dict):
            raise UserError(f"{place}: a step is `STAGE: {{options}}` or `for: …` with `steps: …`")
        if "for" in entry:
            _repeat(entry, environment, recipe, base, f"{where}{number}.", place)
        else:
            _step(entry, environment, recipe, base, place)


def _repeat(entry: Value, environment: Environment, recipe: Recipe, base: Path, where: str, place: str) -> None:
    loops, steps = entry["for"], entry.get("steps")
    if set(entry) != {"for", "steps"} or not isinstance(loops, dict) or not isinstance(steps, list):
        raise UserError(f"{place}: `for` maps names to lists, and stands beside `steps` alone")
    _check_names(loops, f"{place}: `for`")
    choices = []
    for name, values in loops.items():
        resolved = _resolve(_placed(values, base), environment, recipe, place)
        named = NAME.fullmatch(values) if isinstance(values, str) else None
        if named and resolved is None:
            raise UserError(f"{recipe.path.name} needs --set '{named[1] or named[2]}=[…]', a list with commas between")
        if named and not isinstance(resolved, list):
            resolved = [resolved]
        if not isinstance(resolved, list):
            raise UserError(f"{place}: `for` needs a list for {name!r}")
        choices.append(resolved)
    rounds = math.prod(map(len, choices))
    recipe.grow("rounds of `for`", rounds, place)
    collected: dict[str, list[Value]] = {}
    for chosen in itertools.product(*choices):
        inner = environment | dict(zip(loops, chosen, strict=True))
        before = dict(inner)
        _expand(steps, inner, recipe, base, where)
        for name, value in inner.items():
            if name not in before or before[name] is not value:
                collected.setdefault(name, []).extend(value if isinstance(value, list) else [value])
    environment |= collected


def _step(entry: Value, environment: Environment, recipe: Recipe, base: Path, place: str) -> None:
    (stage, options), *others = entry.items()
    if others:
        raise UserError(f"{place}: a step names one stage, not {', '.join(map(str, entry))}")
    if stage not in STAGES:
        raise UserError(
            f"{place}: there is no stage {str(stage)!r}{did_you_mean(str(stage), STAGES)}; known: {', '.join(STAGES)}"
        )
    if not isinstance(options, dict):
        raise UserError(f"{place}: `{stage}` needs its options as `key: value`")
    recipe.grow("steps", 1, place)
    given = {
        str(k).replace("-", "_"): _resolve(_placed(v, base), environment, recipe, place) for k, v in options.items()
    }
    unset = _unset(STAGES[stage], options, given, recipe.path)
    label = str(given.pop("label", name := str(given.pop("as", stage))))
    if name in environment and not _made(environment[name]):
        raise UserError(f"{place}: {name!r} already names a value of `set` or `for`; call the step otherwise with `as`")
    recipe.steps.append(Step(STAGES[stage], label, given, unset))
    environment[name] = Ref(len(recipe.steps) - 1)


def _unset(cls: type[Stage], options: Value, given: dict[str, Value], path: Path) -> str | None:
    """What to do where a required option hangs on a value of `set` that is still null; else None."""
    needed = {f.name: f.metadata["help"] for f in fields(cls) if f.default is MISSING}
    for key, word in options.items():
        option = str(key).replace("-", "_")
        if option in needed and given[option] is None and isinstance(word, str) and NAME.fullmatch(word):
            return f"{path.name} needs --set {word.strip('${}')}=…: {needed[option]}"
    return None


def _resolve(value: Value, environment: Environment, recipe: Recipe, place: str) -> Value:
    """The value with `$name` replaced; a list inside a list is flattened."""
    if isinstance(value, list):
        flat: list[Value] = []
        for item in value:
            resolved = _resolve(item, environment, recipe, place)
            several = resolved if isinstance(resolved, list) else [resolved]
            recipe.grow("items in lists", len(several), place)
            flat.extend(several)
        return flat
    if not isinstance(value, str):
        return value
    if whole := NAME.fullmatch(value):
        return _lookup(whole[1] or whole[2], environment, place)

    def spelled(match: re.Match[str]) -> str:
        found = _lookup(match[1] or match[2], environment, place)
        recipe.grow("items in lists", len(found) if isinstance(found, (list, dict)) else 0, place)
        word = str(found)
        recipe.grow("characters", len(word), place)
        return word

    text = NAME.sub(spelled, value)
    return Placed.at(value.base, text) if isinstance(value, Placed) else text


def _made(value: Value) -> bool:
    return isinstance(value, Ref) or (isinstance(value, list) and any(map(_made, value)))


def _lookup(name: str, environment: Environment, place: str) -> Value:
    if name not in environment:
        raise UserError(f"{place}: nothing before it is called ${name}{did_you_mean(name, environment)}")
    return environment[name]
