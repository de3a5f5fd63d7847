"""The door for Python: every stage and view by its name, nothing heavy at import, errors a caller can catch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import embprobe
from embprobe.errors import UserError
from embprobe.stages import FLOW
from embprobe.store import Store
from tests.tiny import Toy

ROOT = Path(__file__).parent.parent


def test_every_stage_is_exported_and_documents_its_options() -> None:
    assert {cls.__name__ for cls in FLOW} <= set(dir(embprobe)) == set(embprobe.__all__)
    for cls in FLOW:
        assert getattr(embprobe, cls.__name__) is cls
        for name in cls.__dataclass_fields__:
            assert (
                name in (cls.__doc__ or "")
                or name in ("version", "about")
                or cls.__dataclass_fields__[name].metadata["derived"]
            )


def test_what_is_called_like_a_module_is_still_what_it_was(place: Store) -> None:
    assert embprobe.make(Toy(), place) == embprobe.make(Toy(), place)
    assert callable(embprobe.run) and callable(embprobe.make)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Extrakt'"):
        embprobe.Extrakt  # noqa: B018


def test_a_word_where_an_artefact_belongs_says_what_to_write() -> None:
    with pytest.raises(UserError, match=r'--images takes an artefact, not a word; write store\["faces"\]'):
        embprobe.Extract(images="faces", encoder="pixels")


def test_a_view_of_another_stage_is_refused(place: Store) -> None:
    with pytest.raises(UserError, match="was made by toy; Latents wants what compress makes"):
        embprobe.Latents(embprobe.make(Toy(), place))


def test_a_recipe_with_no_such_value_is_refused(place: Store) -> None:
    with pytest.raises(UserError, match="nothing to set called 'sample'; did you mean \"samples\""):
        embprobe.run("demo", place, sample=3)


def test_import_and_help_are_light_and_help_reads_from_the_top() -> None:
    code = "import sys, embprobe; assert not {'torch', 'zarr', 'numpy', 'typer', 'rich'} & set(sys.modules); help(embprobe)"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PAGER": "cat"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    shown = done.stdout
    assert shown.index("A stage is a question") < shown.index("class Artefact") < shown.index("class Extract")
    assert "encoder: mae-tiny, ijepa-tiny, mae, ijepa" in shown
