"""The packages that programs may import beside the standard library: an allow-list.

Each comes with what it requires, from where it is installed for this Python.
"""

from functools import cache
from importlib import metadata
from pathlib import Path

from ded.errors import ParameterError, near


@cache
def places(names: tuple[str, ...]) -> dict[str, Path]:
    """{name in a folder of packages: where it lies} of these distributions and all they require.

    ParameterError for one that is not installed. Folders that several distributions share come
    whole.
    """
    from packaging.requirements import Requirement

    places: dict[str, Path] = {}
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        distribution = _distribution(name)
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        places |= {top: Path(str(distribution.locate_file(top))).resolve() for top in tops}
        needs = map(Requirement, distribution.requires or ())
        waiting += [
            need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})
        ]
    return places


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        installed = {each.name for each in metadata.distributions()}
        why = f"no package {name!r} is installed here{near(name, installed)}"
        raise ParameterError(f"grading.packages: {why}; pip install it, or leave it out") from None
