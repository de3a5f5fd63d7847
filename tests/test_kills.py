"""Killed at any moment, nothing is lost: every stage is killed once and must end bit-equal to a run that was not."""

import json
import subprocess
import sys
from pathlib import Path


def test_killed_and_continued_equals_whole_for_every_stage(tmp_path: Path) -> None:
    script = Path(__file__).parent / "studies" / "kill_study.py"
    done = subprocess.run(
        [sys.executable, str(script), "--moments", "1", "--store", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr
    counts = json.loads(done.stdout)
    assert len(counts) >= 9
    assert [c["stage"] for c in counts if c["equal"] != c["killed"]] == []
