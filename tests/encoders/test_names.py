"""Names of encoders, families of other packages, and weights in the hub's cache; without torch or a network."""

import os
import subprocess
import sys
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

import huggingface_hub
import pytest

from embprobe.encoders import names
from embprobe.encoders.known import known_encoders
from embprobe.errors import UserError

MAE = "timm/vit_huge_patch14_224.mae"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def cached(hub: Path, repository: str, content: bytes = b"tensors") -> Path:
    """Puts model.safetensors of a repository into the cache, as the hub's client lays it out."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    file = folder / "snapshots" / "abc123" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc123")
    return file


class Package(Distribution):
    """A distribution `other-encoders` 1.2."""

    def read_text(self, filename: str) -> str | None:
        return "Name: other-encoders\nVersion: 1.2\n" if filename == "METADATA" else None

    def locate_file(self, path: object) -> Path:
        return Path(str(path))


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> EntryPoint:
    """A package that offers the family `other`."""
    entry = EntryPoint("other", "other_encoders:load", names.GROUP)._for(Package())  # type: ignore[attr-defined]
    monkeypatch.setattr(names, "families", lambda: {"other": entry})
    assert isinstance(entry, EntryPoint)
    return entry


def test_names_are_known_without_torch_timm_or_numpy() -> None:
    code = """
import sys
for name in ("torch", "timm", "numpy", "torchvision"): sys.modules[name] = None
from embprobe.encoders import names
from embprobe.encoders.known import known_encoders
names.check_name("mae"), known_encoders(), names.hub_file("mae", download=False)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "source", ["mae", "timm:vit_tiny_patch16_224", "timm:mae", "pixels", "pixels:4", "random:vit-32x1-h2-p8"]
)
def test_names_of_the_grammar_pass(source: str) -> None:
    names.check_name(source)


@pytest.mark.parametrize("source", ["dinov1", "timm:", "pixels:", "random", "other:clip", "vit_tiny_patch16_224", ""])
def test_other_names_do_not(source: str) -> None:
    with pytest.raises(UserError, match="is unknown"):
        names.check_name(source)


def test_a_near_miss_is_asked_about() -> None:
    with pytest.raises(UserError, match='encoder "dinov33" is unknown; did you mean "dinov3"'):
        names.check_name("dinov33")


def test_one_encoder_has_one_full_name() -> None:
    assert {names.full_name(n) for n in ("mae", "timm:mae", f"timm:{MAE[5:]}")} == {f"timm:{MAE[5:]}"}
    assert names.full_name("pixels:8") == "pixels:8"
    assert names.full_name("random:vit-32x1-h2-p8") == "random:vit-32x1-h2-p8"


def test_controls_learned_nothing_and_a_seed_decides_random_ones_alone() -> None:
    assert [names.is_control(n) for n in ("pixels", "pixels:4", "random:x", "mae", "timm:x")] == [True] * 3 + [
        False
    ] * 2
    assert [names.draws(n) for n in ("pixels", "random:x", "mae")] == [False, True, False]


def test_the_table_says_what_timm_says() -> None:
    import timm
    import torch

    for row in names.SHORT_NAMES.values():
        config = timm.get_pretrained_cfg(row.timm, allow_unregistered=False)
        assert config is not None and config.input_size == (3, row.size, row.size)
        with torch.device("meta"):
            model = timm.create_model(row.timm, pretrained=False)
        assert (model.embed_dim, model.patch_embed.patch_size) == (row.width, (row.patch, row.patch))
        said = str(config.license).lower().replace("-", " ")
        assert said.split()[0] == row.licence.lower().replace("-", " ").split()[0]


def test_a_family_of_another_package_is_named_by_its_prefix(family: EntryPoint, hub: Path) -> None:
    names.check_name("other:clip")
    assert names.full_name("other:clip") == "other:clip"
    assert names.family_version("other:clip") == "other-encoders==1.2"
    assert names.family_version("mae") is None and names.hub_file("other:clip", download=True) is None
    assert known_encoders()[-1].name == "other:NAME"
    with pytest.raises(UserError, match="other:NAME"):
        names.check_name("another:clip")


def test_a_cached_file_is_found_by_the_short_and_by_the_long_name(hub: Path) -> None:
    assert names.hub_file("mae", download=False) is None
    file = cached(hub, MAE)
    assert names.hub_file("mae", download=False) == names.hub_file(f"timm:{MAE[5:]}", download=True) == file
    assert names.hub_file("pixels", download=True) is None and names.hub_file("random:x", download=True) is None
    here = {row.name: row.here for row in known_encoders()}
    assert here["mae"] is True and here["dinov2"] is False and here["pixels[:PATCH]"] is None


def test_a_file_of_the_cache_is_told_from_one_of_the_users(hub: Path, tmp_path: Path) -> None:
    assert names.from_hub(cached(hub, MAE)) and not names.from_hub(tmp_path.parent / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "method"), [("vit_huge_patch14_224.mae", "mae"), ("vit_huge_patch14_gap_224.in22k_ijepa", "ijepa"),
                         ("vit_base_patch16_224", None), ("vit_base_patch16_224.augreg_in21k", None)]
)  # fmt: skip
def test_the_tag_tells_whose_weights_they_are(name: str, method: str | None) -> None:
    assert names.published_by(name) == method


def test_a_name_without_its_tag_is_completed_by_timm(hub: Path) -> None:
    file = cached(hub, "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k")
    assert names.hub_file("timm:vit_base_patch16_224", download=True) == file


def test_a_file_that_cannot_be_fetched_says_which_from_where_and_what_to_do(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def unreachable(url: str, **_: object) -> None:
        asked.append(url)
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    with pytest.raises(UserError, match=r"could not be fetched \(Name.*model\.safetensors of timm/vit_huge.*--weights"):
        names.hub_file("mae", download=True)
    assert len(asked) == 1 and MAE in asked[0]  # no retries


@pytest.mark.parametrize(
    ("name", "words"),
    [("timm:vit_tny_patch16_224", 'did you mean "vit_tiny_patch16_224'), ("timm:vit_tiny_patch16_224.x", "no weights")],
)
def test_names_that_timm_does_not_know_are_the_users_mistake(name: str, words: str, hub: Path) -> None:
    with pytest.raises(UserError, match=words):
        names.hub_file(name, download=True)
