"""Finds the model that ``pitool plan`` is asked about, whatever names it.

A GGUF, a bundle and a size need what a board has; a checkpoint needs the host's packages.
"""

from __future__ import annotations

from pathlib import Path

from pitool.catalog import bundles, gguf
from pitool.catalog.files import what_is
from pitool.catalog.manifest import FILE_NAME
from pitool.catalog.recipes import default_recipe
from pitool.planning.plan import Subject
from pitool.planning.shapes import header_shape, header_tensors
from pitool.planning.sizes import sized_shape


def find_subject(model: str | None, tier: str | None) -> Subject:
    """Return the model of a plan; None asks the recipe of ``tier``."""
    if model is not None:
        path = Path(model).expanduser()
        if what_is(path) == "file":
            return _gguf(path)
        if (path / FILE_NAME).is_file() or bundles.is_name(path):
            return _bundle(path)
        if what_is(path) is None and (sized := sized_shape(model)):
            return Subject(*sized, typical=True)
    return _checkpoint(model, tier)


def _gguf(path: Path) -> Subject:
    header = gguf.read_header(path)
    name = str(header.metadata.get("general.name", path.stem))
    return Subject(name, header_shape(header), {header.quantisation: header_tensors(header)})


def _bundle(path: Path) -> Subject:
    bundle = bundles.open_bundle(path)
    headers = {
        a.quantisation: gguf.read_header(bundle.path / a.files[0].path)
        for a in bundle.manifest.artifacts
        if a.format == "gguf"
    }
    if not headers:
        from pitool.errors import BadInput

        source = bundle.manifest.source.id
        raise BadInput(f"{path} holds no GGUF artifact", f"name its checkpoint instead: {source}")
    return Subject(
        bundle.manifest.name,
        header_shape(next(iter(headers.values()))),
        {name: header_tensors(header) for name, header in headers.items()},
        {a.quantisation: a.certificate for a in bundle.manifest.artifacts if a.certificate},
    )


def _checkpoint(model: str | None, tier: str | None) -> Subject:
    from pitool.checkpoint import hub
    from pitool.checkpoint.source import find_source
    from pitool.cli import show
    from pitool.convert.gguf.model import model_shape
    from pitool.convert.settings import read_settings

    tier = tier or next(reversed(list(_default_tiers())))
    source = find_source(model, tier)
    if source.folder is None:
        show.talk(f"reading the settings of {source.id} from the hub")
        source = hub.fetch_settings(source)
    assert source.folder
    config = read_settings(source)
    return Subject(source.id, model_shape(config))


def _default_tiers() -> list[str]:
    from pitool.catalog.tiers import tiers
    from pitool.errors import UsageError

    known = []
    for tier in tiers():
        try:
            default_recipe(tier)
        except UsageError:
            continue
        known.append(tier)
    return known
