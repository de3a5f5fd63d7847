"""Writes the page of the guide that is made from the program: python -m tests.remake_guide."""

from embprobe.cli.guide import FOLDER, GENERATED, stages_page

if __name__ == "__main__":
    (FOLDER / f"{GENERATED}.md").write_text(stages_page(), encoding="utf-8")
