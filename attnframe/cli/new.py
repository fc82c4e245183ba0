"""`attnframe new`: the file of a new variant, and what to do with it."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from attnframe import discovery, registry
from attnframe.cli import composition
from attnframe.cli.output import wants_help, write
from attnframe.cli.variant_template import variant_source
from attnframe.errors import UserError

USAGE = """attnframe new NAME      the file of a variant of your own, which runs as it is

  attnframe new my_idea

writes plugins/my_idea.py: fill in the formula, the reference and what `forward` computes. The folder is the first of
$ATTNFRAME_PLUGINS, by default plugins/ of the folder you are in. A file that is there is never overwritten.
"""

_NEXT = """{file} is written, a variant that runs as it is. Next:

  attnframe check {name}
  attnframe train attention={name} debug=fast
  attnframe train -m attention=multi_head,{name} seed=1,2,3 match=params sweep={name}
"""

# Words that mean something else where a variant's name is expected: `attnframe check all`, `attention=null`, ...
_TAKEN = ("all", "null", "true", "false", "nan", "inf")


def main(arguments: list[str]) -> int:
    """Exit code 0. Raises `UserError` for a name that cannot be had or a file that cannot be written."""
    if wants_help(arguments):
        print(USAGE, end="")
        return 0
    if len(arguments) != 1:
        given = f"{' '.join(arguments)}: " if arguments else ""
        raise UserError(f"{given}give one name, for example `attnframe new my_idea`")
    (name,) = arguments
    _refuse_a_name_that_is_none(name)
    file = _folder() / f"{name}.py"
    composition.prepare()
    _refuse_a_name_that_is_taken(name)
    _write(file, variant_source(name))
    write(_NEXT.format(file=file, name=name))
    return 0


def _refuse_a_name_that_is_none(name: str) -> None:
    # ASCII only, and neither _first nor last_schema: a config, a plugin folder and a listing pass over those.
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name.endswith("_schema"):
        rest = re.sub(r"\W+", "_", name).strip("_").removesuffix("_schema")
        nearest = rest if rest.isidentifier() and rest.isascii() else "my_idea"
        raise UserError(
            f"{name!r} cannot be the name of a variant: that is a letter, then letters, digits and underscores, "
            f"without _schema at the end, such as {nearest!r}"
        )
    if keyword.iskeyword(name) or name.lower() in _TAKEN:
        raise UserError(f"{name!r} cannot be the name of a variant, for that word is taken; {name}_attention could")


def _folder() -> Path:
    """Where the file belongs, whether or not the folder is there yet."""
    folders = discovery.chosen_folders()
    if not folders:
        raise UserError(
            f"${discovery.FOLDERS_VARIABLE} is empty, which turns plugin files off: unset it, or set it to a folder"
        )
    return folders[0]


def _refuse_a_name_that_is_taken(name: str) -> None:
    known = registry.variants()
    if name in known:
        raise UserError(f"there is a variant {name!r} already, in {known[name].file}: choose another name")
    for broken in discovery.broken_plugins():
        if name in broken.names:
            raise UserError(f"{broken.file} would define {name!r} but failed to import: mend it or choose another name")
    for folder in (composition.conf_folder(), *composition.user_conf_folders()):
        for file in sorted((folder / "attention").glob(f"{name}.y*ml")):
            raise UserError(f"there is a preset {name!r} already, {file}: choose another name")


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        # A link to nowhere is there too.
        if file.exists() or file.is_symlink():
            raise UserError(f"{file} is there already and is left as it is: choose another name") from error
        raise UserError(f"{file} cannot be written: {error.filename}: {error.strerror}") from error
