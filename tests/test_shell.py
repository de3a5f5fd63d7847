"""The shell as a newcomer meets it: the first screen, help, completion, and what ls, show, plan and run say."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embprobe import signals
from embprobe.cli.help import BRIEF, EXAMPLES, GROUPS, opening
from embprobe.errors import Interrupted
from embprobe.making import make
from embprobe.running import run
from embprobe.stages.compress import Compress
from embprobe.stages.ingest import Ingest
from embprobe.stages.pretrain import Pretrain
from embprobe.store import Store
from tests.conftest import ROOT, Shell, Zoo

SMALL = """
set: {steps: 4}
steps:
  - ingest: {source: planted, count: 40, size: 16, as: data}
  - for: {encoder: ["pixels:4", "random:vit-16x1-h2-p4"]}
    steps:
      - extract: {images: $data, encoder: $encoder, as: embeddings}
      - compress: {embeddings: $embeddings, channels: 2, steps: $steps, batch: 8, as: latents}
"""


def write(folder: Path, text: str) -> Path:
    (folder / "small.yaml").write_text(text)
    return folder / "small.yaml"


# ---- help


def test_embprobe_alone_shows_a_screen_that_fits(shell: Shell) -> None:
    told = shell()
    assert told.code == 0 and told.out == opening() + "\n"
    lines = told.out.splitlines()
    assert len(lines) <= 22 and max(map(len, lines)) <= 80
    assert all(command in told.out for command in BRIEF)


def test_h_is_help(shell: Shell) -> None:
    assert shell("-h").out == shell("--help").out
    assert shell("diffuse", "-h").out == shell("diffuse", "--help").out


def test_commands_stand_in_groups_in_the_order_of_the_flow(shell: Shell) -> None:
    text = shell("-h").out
    known = re.findall(r"^  (\w+) {2,}(.*)", text, re.M)
    listed = [name for name, _ in known if name in BRIEF]
    assert listed == [name for names in GROUPS.values() for name in names if name in listed]
    assert all(brief == BRIEF[name] for name, brief in known if name in BRIEF), "none is cut"
    titles = [title for title in GROUPS if f"{title}:" in text]
    assert titles == list(GROUPS)


@pytest.mark.parametrize("command", EXAMPLES)
def test_every_command_has_an_example_that_it_understands(command: str, shell: Shell) -> None:
    from typer.main import get_command

    from embprobe.cli import app

    group = get_command(app)
    words = EXAMPLES[command].split()
    assert words[:2] == ["embprobe", command]
    assert EXAMPLES[command] in shell(command, "-h").out
    found = group.commands[command]  # type: ignore[attr-defined]
    found.make_context(command, words[2:])  # raises for an option that is not there


def test_options_stand_below_headings_inputs_first(shell: Shell) -> None:
    text = shell("diffuse", "-h").out
    headings = re.findall(r"^([A-Z][^:\n]*):$", text, re.M)
    assert headings[:5] == [
        "Inputs",
        "What is asked for",
        "Training",
        "How it runs (the answer is the same)",
        "The store",
    ]
    assert text.index("--latents") < text.index("Training:") < text.index("--learning-rate") < text.index("--device")


def test_a_learning_rate_may_be_called_so(zoo: Zoo, shell: Shell, place: Store) -> None:
    base = ("compress", "--embeddings", zoo["embeddings"].path, "--channels", 2, "--steps", 2, "--batch", 8)
    paths = {shell(*base, word, 0.01, "--store", place.root).out for word in ("--rate", "--learning-rate")}
    assert len(paths) == 1 and paths.pop()


def test_a_folder_is_called_a_folder(shell: Shell) -> None:
    assert "--png FOLDER" in shell("sample", "-h").out and "--profile FOLDER" in shell("diffuse", "-h").out


# ---- completion, in bash, under a pseudo-terminal


class Bash:
    """A bash that a user types into."""

    def __init__(self, folder: Path) -> None:
        binaries = folder / "bin"
        binaries.mkdir()
        (binaries / "embprobe").write_text(f"#!{sys.executable}\nfrom embprobe.__main__ import main\nmain()\n")
        (binaries / "embprobe").chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PS1": "$ ", "TERM": "dumb",
            "INPUTRC": "/dev/null", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
        }  # fmt: skip
        script = subprocess.run(
            ["embprobe", "--show-completion", "bash"], env=self.environment, capture_output=True, text=True, check=True
        )
        (folder / "completion.sh").write_text(script.stdout)
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe("bash", ["bash", "--norc", "--noprofile"], self.environment)
        self.typed("source completion.sh\n", until="$ ")

    def typed(self, keys: str, until: str | None = None, seconds: float = 30.0) -> str:
        """What the terminal shows after these keys, once it holds `until` or stays silent for a second."""
        os.write(self.terminal, keys.encode())
        seen, end = "", time.monotonic() + seconds
        while time.monotonic() < end:
            ready, _, _ = select.select([self.terminal], [], [], 1.0)
            if ready:
                seen += os.read(self.terminal, 65536).decode(errors="replace")
            elif until is None or until in seen:
                break
        return seen

    def close(self) -> None:
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="no bash")
def test_tab_completes_commands_options_artefacts_stages_and_recipes(tmp_path: Path) -> None:
    store = Store(tmp_path / "embstore")
    images = make(Ingest(source="planted", count=8, size=16), store)
    store.name("my-scenes", images)
    bash = Bash(tmp_path)
    try:
        for keys, wanted in (
            ("embprobe ext\t", "embprobe extract "),
            ("\x15embprobe diffuse --lat\t", "--latents "),
            ("\x15embprobe extract --images my\t", "my-scenes "),
            ("\x15embprobe show my\t", "my-scenes "),
            ("\x15embprobe ls inge\t", "ingest "),
            ("\x15embprobe run imagen\t", "imagenette64 "),
            ("\x15embprobe extract --encoder dinov2\t", "dinov2 "),
        ):
            shown = bash.typed(keys, until=wanted)
            assert wanted in shown, (keys, shown)
    finally:
        bash.close()


@pytest.mark.parametrize("which", ["bash", "zsh", "fish"])
def test_there_is_a_completion_script_for_each_shell(which: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    words = [sys.executable, "-c", "from embprobe.__main__ import main; main()", "--show-completion", which]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "complet" in done.stdout.lower(), done.stderr


# ---- ls and show


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with one data set, two encoders and their latents."""
    folder = tmp_path_factory.mktemp("small")
    store = Store(folder / "store")
    run(write(folder, SMALL), store)
    data = next(a for a in store.artefacts() if a.stage == "ingest")
    store.name("scenes", data)
    return store


def test_ls_tells_parents_data_sets_and_encoders(small: Store, shell: Shell) -> None:
    rows = shell("ls", "--store", small.root).out.splitlines()
    extracts = [row for row in rows if row.startswith("extract")]
    assert len(rows) == 6 and all(" scenes " in row for row in extracts)
    compresses = [row for row in rows if row.startswith("compress")]
    assert sum("pixels:4, steps 4" in row for row in compresses) == 1
    assert sum("random:vit-16x1-h2-p4, steps 4" in row for row in compresses) == 1


def test_ls_takes_stages_data_sets_and_draws_a_tree(small: Store, shell: Shell) -> None:
    assert len(shell("ls", "extract", "--store", small.root).out.splitlines()) == 3
    one = next(a for a in small.artefacts() if a.stage == "extract")
    of = shell("ls", "--of", one.short, "--store", small.root).out
    assert one.short in of and len(of.splitlines()) == 3 and "ingest" not in of
    tree = shell("ls", "--tree", "--store", small.root).out.splitlines()
    depths = [(len(row) - len(row.lstrip()), row.split()[0]) for row in tree[1:]]
    assert depths == [(0, "ingest"), (2, "extract"), (4, "compress"), (2, "extract"), (4, "compress")]
    wrong = shell("ls", "extrat", "--store", small.root)
    assert wrong.code == 2 and 'did you mean "extract"' in wrong.err
    assert "`embprobe ls --of scenes`" in shell("ls", "scenes", "--store", small.root).err
    assert len(json.loads(shell("ls", "compress", "--json", "--store", small.root).out)) == 2


def test_ls_on_a_narrow_terminal_folds_no_word(small: Store) -> None:
    text = on_terminal(80, "ls", "--store", str(small.root))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "what: random:vit-16x1-h2-p4, steps 4" in text and "name: scenes" in text
    assert len(lines) < 20
    wide = on_terminal(140, "ls", "--store", str(small.root))
    assert "what:" not in wide and max(map(len, wide.splitlines())) <= 140


def stop_after(patch: pytest.MonkeyPatch, times: int) -> None:
    """Lets a stop be asked for once it was asked so often whether there is one."""
    asked = [0]

    def requested() -> bool:
        asked[0] += 1
        return asked[0] > times

    def check() -> None:
        if requested():
            raise Interrupted("stop")

    patch.setattr(signals, "requested", requested)
    patch.setattr(signals, "check", check)


def on_terminal(columns: int, *words: str) -> str:
    """What a command shows on a terminal so wide."""
    import fcntl
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": str(columns)}
    process = subprocess.Popen(
        [sys.executable, "-m", "embprobe", *words], stdout=follower, stderr=subprocess.DEVNULL, env=environment
    )
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    process.wait()
    os.close(leader)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode()).replace("\r", "")


def test_what_is_unfinished_tells_how_far_it_is(
    zoo: Zoo, place: Store, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 12)
        with pytest.raises(Interrupted):
            make(Compress(embeddings=zoo["embeddings"], channels=2, steps=60, batch=8, device="cpu"), place)
    row = shell("ls", "compress", "--store", place.root).out.splitlines()[1]
    (far,) = re.findall(r" (\d+)/60\b", row)
    assert 0 < int(far) < 60
    short = row.split()[1]
    assert f"unfinished ({far} of 60)" in shell("show", short, "--store", place.root).out


def test_an_encoder_with_an_alias_goes_by_it(zoo: Zoo, place: Store, shell: Shell) -> None:
    made = make(Pretrain(images=zoo["images"], objective="mae", width=16, depth=1, heads=2, patch=8, steps=0), place)
    place.name("my-own", made)
    shell("extract", "--images", zoo["images"].path, "--encoder", "my-own", "--store", place.root)
    (row,) = shell("ls", "extract", "--store", place.root).out.splitlines()[1:]
    assert "my-own" in row


def test_show_tells_names_in_place_of_fingerprints(small: Store, shell: Shell) -> None:
    extract = next(a for a in small.artefacts() if a.stage == "extract")
    text = shell("show", extract.short, "--store", small.root).out
    assert "images scenes (" in text and "images=" not in text
    assert max(map(len, text.splitlines())) < 400


def test_artefacts_that_all_fit_are_told_apart(small: Store, shell: Shell) -> None:
    told = shell("compress", "--store", small.root)
    assert told.code == 2
    assert "with encoder pixels:4" in told.err and "with encoder random:vit-16x1-h2-p4" in told.err


# ---- plan and run


def test_plan_tells_rows_apart_and_scales_by_work(small: Store, shell: Shell, tmp_path: Path) -> None:
    recipe = write(tmp_path, SMALL)
    cached = json.loads(shell("plan", recipe, "--store", small.root, "--json").out)
    assert {row["state"] for row in cached} == {"cached"}
    rows = json.loads(shell("plan", recipe, "--set", "steps=4000", "--store", small.root, "--json").out)
    took = {a.short: a.manifest for a in small.artefacts() if a.stage == "compress"}
    todo = [row for row in rows if row["state"] == "will run"]
    assert [row["what"].split(",")[0] for row in todo] == ["pixels:4", "random:vit-16x1-h2-p4"]
    for row in todo:
        seconds, at_work = took[row["rests_on"]]["seconds"], took[row["rests_on"]]["at_work"]
        assert 0 < at_work < seconds, "what loads libraries is no work"
        assert row["seconds"] == pytest.approx(seconds - at_work + 1000 * at_work, rel=1e-6)
        assert row["why"] == f"unlike {row['rests_on']}: steps 4 → 4000"
    text = shell("plan", recipe, "--set", "steps=4000", "--store", small.root).out
    assert "times are in proportion to the work of" in text


def test_plan_knows_how_many_images_there_will_be(small: Store, shell: Shell, tmp_path: Path) -> None:
    """Before, an extract of images not yet ingested was told the time of an earlier one, however many they were."""
    recipe = write(tmp_path, SMALL.replace("count: 40", "count: 4000"))
    rows = json.loads(shell("plan", recipe, "--store", small.root, "--json").out)
    (extract, *_) = [row for row in rows if row["stage"] == "extract"]
    took = {a.short: a.manifest for a in small.artefacts() if a.stage == "extract"}
    before = took[extract["rests_on"]]
    slower = before["seconds"] + 99 * before["at_work"]
    assert extract["seconds"] == pytest.approx(slower, rel=1e-6)
    assert extract["bytes"] == pytest.approx(100 * before["bytes"], rel=1e-3), "a row for each image"


@pytest.mark.parametrize("encoder", ["pixels:5", "random:vit-16x1-h2"])
def test_an_encoder_that_can_never_fit_is_refused_before_its_images_are_made(
    shell: Shell, tmp_path: Path, encoder: str
) -> None:
    recipe, store = write(tmp_path, SMALL.replace("pixels:4", encoder)), tmp_path / "store"
    for command in ("plan", "run"):
        told = shell(command, recipe, "--store", store)
        assert told.code == 2 and encoder in told.lines[-1] and not store.exists()


def test_a_data_set_that_is_there_is_checked_before_anything_is_made(
    zoo: Zoo, shell: Shell, place: Store, tmp_path: Path
) -> None:
    """One class: nothing can learn to tell it from others. Before, all that the judge does not need was made first."""
    recipe = write(tmp_path, f"""steps:
  - extract: {{images: {zoo["oneclass"].path}, encoder: "pixels:4"}}
  - classify: {{images: {zoo["oneclass"].path}, steps: 2}}
""")  # fmt: skip
    told = shell("run", recipe, "--store", place.root)
    assert told.code == 2 and "nothing was made" in told.lines[-1], told.err
    assert not place.artefacts()


def test_weights_that_were_only_read_tell_no_time(zoo: Zoo, place: Store, shell: Shell, tmp_path: Path) -> None:
    """`pretrain --steps 0` takes no time, and says nothing of 2 400 steps."""
    sizes = {"objective": "mae", "width": 16, "depth": 1, "heads": 2, "patch": 8}
    make(Pretrain(images=zoo["images"], steps=0, **sizes), place)
    options = ", ".join(f"{k}: {v}" for k, v in {**sizes, "steps": 2400, "images": zoo["images"].path}.items())
    recipe = write(tmp_path, f"steps: [{{pretrain: {{{options}}}}}]")
    (row,) = json.loads(shell("plan", recipe, "--store", place.root, "--json").out)
    assert row["seconds"] is None and row["state"] == "will run"


def lines_of(told: str) -> list[str]:
    return [line for line in told.splitlines() if re.match(r"\[\d+/5\] \w+ [0-9a-f]{10} \(", line)]


def test_run_says_of_each_step_what_came_of_it_and_what_is_left(shell: Shell, tmp_path: Path) -> None:
    recipe, store = write(tmp_path, SMALL), tmp_path / "store"
    first = shell("run", recipe, "--store", store, "--jobs", 1)
    assert first.code == 0 and first.lines[0].startswith("5 steps: 0 cached, 5 to make")
    made = lines_of(first.err)
    assert len(made) == 5 and all(": made in " in line for line in made)
    assert "; left: " in made[0] and "; left: " not in made[-1]
    assert "about" in made[3], "the second encoder's time is told by the first's"
    again = shell("run", recipe, "--store", store, "--jobs", 1)
    assert again.lines[0] == "5 steps: 5 cached, 0 to make"
    assert [line.rpartition(": ")[2] for line in lines_of(again.err)] == ["cached"] * 5
    more = lines_of(shell("run", recipe, "--set", "steps=5", "--store", store, "--jobs", 1).err)
    assert [": cached" in line for line in more] == [True, True, False, True, False]
    assert ", unlike " in more[2] and "steps 4 → 5" in more[2]


def test_a_step_that_was_stopped_is_said_to_be_continued(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, store = write(tmp_path, SMALL.replace("steps: 4", "steps: 40")), tmp_path / "store"
    with monkeypatch.context() as patch:
        stop_after(patch, 20)
        assert shell("run", recipe, "--store", store, "--jobs", 1).code == 75
    done = shell("run", recipe, "--store", store, "--jobs", 1)
    (line,) = [line for line in lines_of(done.err) if ": continued in " in line]
    assert re.search(r"continued in [\d.]+ m?s, stopped at \d+ of 40", line), line


def test_a_request_that_cannot_be_met_is_refused_before_anything_is_made(shell: Shell, tmp_path: Path) -> None:
    text = SMALL.replace("channels: 2", "channels: 0")
    done = shell("run", write(tmp_path, text), "--store", tmp_path / "store", "--jobs", 1)
    assert done.code == 2 and not (tmp_path / "store").exists()
    (line,) = done.lines
    assert line.startswith("embprobe: latents and 1 more step: --channels is 0") and line.endswith("; nothing was made")


def test_what_can_never_be_leaves_nothing_behind(zoo: Zoo, shell: Shell, place: Store) -> None:
    for encoder in ("pixels:5", "random:vit-32x2-h4", "vit-16x1-h2-p4"):
        assert shell("extract", "--images", zoo["images"].path, "--encoder", encoder, "--store", place.root).code == 2
    assert not place.artefacts()


# ---- what a newcomer's first mistakes are told


def test_a_missing_list_of_a_recipe_is_asked_for_by_its_name_and_one_value_will_do(
    shell: Shell, tmp_path: Path
) -> None:
    text = SMALL.replace("set: {steps: 4}", "set: {steps: 4, encoders: null}")
    recipe = write(tmp_path, text.replace('["pixels:4", "random:vit-16x1-h2-p4"]', "$encoders"))
    told = shell("plan", recipe, "--store", tmp_path / "store")
    assert told.code == 2 and "small.yaml needs --set 'encoders=[…]'" in told.lines[-1]
    one = shell("plan", recipe, "--set", "encoders=pixels:4", "--store", tmp_path / "store")
    assert one.code == 0, one.err


def test_an_alias_of_what_is_no_encoder_leaves_a_built_in_name_its_meaning(shell: Shell, place: Store) -> None:
    images = make(Ingest(source="planted", count=24, size=16), place)
    place.name("pixels", images)
    done = shell("extract", "--images", images.path, "--encoder", "pixels", "--store", place.root)
    assert done.code == 0, done.err
    (made,) = [a for a in place.artefacts() if a.stage == "extract"]
    assert made.inputs == {"images": images}


def test_pictures_overwrite_nothing(zoo: Zoo, shell: Shell, place: Store, tmp_path: Path) -> None:
    words = ("show", zoo["images"].path, "--png", tmp_path / "look", "--store", place.root)
    assert shell(*words).code == 0 and shell(*words).code == 0
    (tmp_path / "look" / "contact.png").write_text("mine")
    refused = shell(*words)
    assert refused.code == 2 and "is there already and shows something else" in refused.err
    assert (tmp_path / "look" / "contact.png").read_text() == "mine"


def test_report_without_artefacts_names_no_option_that_is_not_there(shell: Shell, place: Store) -> None:
    told = shell("report", "--store", place.root)
    assert told.code == 2 and "report needs artefacts" in told.err and "--artefacts" not in told.err
