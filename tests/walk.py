"""A stranger's walk: python -m tests.walk --shared FOLDER

Takes the six commands of the guide's first page as they are written, from `pip install .` in a fresh environment to the page, on
the cats of FOLDER/data/afhq_cat64.zip with the judge of FOLDER/weights, and says how long each took.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
NEEDED = {
    "cats.zip": "data/afhq_cat64.zip",
    "squeezenet1_0.pth": "weights/squeezenet1_0_deepcompression.pth",
}
MOST_MINUTES = 15


def commands() -> list[str]:
    """The six lines of the first page."""
    text = (ROOT / "embprobe" / "guide" / "start.md").read_text(encoding="utf-8")
    (found,) = [
        b for b in re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M) if b.startswith("pip install .\nembprobe ingest")
    ]
    return found.splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source, here, environment = Path(scratch, "source"), Path(scratch, "here"), Path(scratch, "env")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
        here.mkdir()
        for name, place in NEEDED.items():
            shutil.copy(given.shared / place, here / name)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "EMBPROBE_STORE")}
        variables["PATH"] = f"{environment / 'bin'}:{variables['PATH']}"
        total = 0.0
        for number, line in enumerate(commands(), 1):
            began = time.monotonic()
            subprocess.run(["bash", "-c", line], cwd=source if number == 1 else here, env=variables, check=True)
            total += (took := time.monotonic() - began)
            print(f"{number}. {took:6.1f} s  {line}", flush=True)
        page = here / "answer.html"
        print(f"{total / 60:.1f} minutes in all; the page has {page.stat().st_size / 1e6:.2f} MB")
        shutil.copy(page, "walk.html")
        if total > 60 * MOST_MINUTES:
            sys.exit(f"more than {MOST_MINUTES} minutes")


if __name__ == "__main__":
    main()
