"""Files of prompts: one a line, or JSON lines."""

import json
from pathlib import Path

from embprobe.errors import UserError

MOST_BYTES = 1 << 24
KEYS = ("prompt", "caption", "text")


def read_prompts(path: Path) -> list[str | None]:
    """The prompts of a file; null and an empty JSON string stand for none. Raises UserError for a file without any.

    A .jsonl holds strings, nulls or objects with `prompt`, `caption` or `text`; any other file a prompt a line.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is too large")
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        json_lines = path.suffix.lower() == ".jsonl"
        prompts = [_prompt(json.loads(line)) if json_lines else line.strip() for line in lines]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read prompts from {path} ({error}); give one a line, or JSON lines") from None
    if not prompts:
        raise UserError(f"{path} holds no prompt; write one a line")
    return prompts


def _prompt(value: object) -> str | None:
    if isinstance(value, dict):
        value = next((value[key] for key in KEYS if key in value), 0)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{str(value)[:40]!r} is no prompt")
    return value
