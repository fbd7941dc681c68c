"""The list of protections, as it stands in the `.toml` files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_FIELDS = {"name", "why", "file", "old", "new", "red"}


class PatchError(Exception):
    """The list is wrong: one line that says where and what."""


@dataclass(frozen=True)
class Mutant:
    """A protection, and how it is taken out."""

    name: str
    #: What goes wrong for users without it.
    why: str
    #: The file that is changed, from the repository's root.
    file: str
    #: A text that stands in it exactly once; the new one compiles and imports, but does not protect.
    old: str
    new: str
    #: The tests that must go red, each of them: ``tests/….py::test_name``, perhaps with its parameters.
    red: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The file's text without the protection.

        Raises:
            PatchError: the old text is not there exactly once.
        """
        found = text.count(self.old)
        if found != 1:
            raise PatchError(f"{self.name}: its old text stands in {self.file} {found} times, not once: mend the patch")
        return text.replace(self.old, self.new)


def mutants() -> list[Mutant]:
    """All of them, in the order of the files.

    Raises:
        PatchError: an entry is not as it has to be.
    """
    found: list[Mutant] = []
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        for entry in tomllib.loads(path.read_text("utf-8"))["mutant"]:
            if set(entry) != _FIELDS:
                raise PatchError(f"{path.name}: {entry.get('name')} must have {', '.join(sorted(_FIELDS))} and no more")
            found.append(Mutant(**{**entry, "red": tuple(entry["red"])}))
    names = [mutant.name for mutant in found]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise PatchError(f"two mutants have one name: {', '.join(sorted(doubled))}")
    return found


def check(mutant: Mutant) -> None:
    """Whether the patch applies and its tests exist.

    Raises:
        PatchError: it does not, or one does not.
    """
    path = ROOT / mutant.file
    if not path.is_file():
        raise PatchError(f"{mutant.name}: there is no {mutant.file}")
    text = mutant.applied(path.read_text("utf-8"))
    if path.suffix == ".py":
        try:
            compile(text, mutant.file, "exec")
        except SyntaxError as error:
            raise PatchError(f"{mutant.name}: what it makes of {mutant.file} is no Python: {error}") from None
    if not mutant.red:
        raise PatchError(f"{mutant.name}: names no test")
    for test in mutant.red:
        file, _, name = test.partition("::")
        function = name.partition("[")[0]
        if not (ROOT / file).is_file() or f"def {function}(" not in (ROOT / file).read_text("utf-8"):
            raise PatchError(f"{mutant.name}: there is no test {test}")
