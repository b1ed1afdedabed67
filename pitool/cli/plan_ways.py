"""The sections of ``pitool plan`` for one place: ways to load, savings, profiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pitool.catalog.profiles import Profile, profiles
from pitool.cli.plan_request import Report
from pitool.cli.plan_show import cell, gigabytes
from pitool.planning.loading import Method, Saving, fastest_soc, methods, savings
from pitool.planning.plan import Place, Planner, Row
from pitool.report.tables import Section


def sections(report: Report) -> Iterator[Section]:
    """Yield what is worth knowing about the one place of a report."""
    place = report.places[0]
    yield _methods(report.planner, place)
    yield _savings(report.planner, place)
    yield _profiles(report.planner, place)


def _methods(planner: Planner, place: Place) -> Section:
    seconds = (
        f"seconds on {fastest_soc(place)}"
        if place.boards
        else "seconds are known for the boards only"
    )
    droppable = (
        f"{seconds}; droppable: pages of the file, which the kernel drops and reads again"
        " when memory is short; mlock forbids it"
    )
    return Section(
        f"Ways to load, at {place.name}: memory in GB, seconds to read the file",
        ["method", "memory", "droppable", "verdict", "SD", "USB SSD", "NVMe", "KL"],
        [_method(m) for m in methods(planner, place)],
        [
            droppable,
            "read: a private copy; types that are repacked lie in memory twice when mapped",
        ],
    )


def _method(method: Method) -> list[str]:
    quality = f"{method.certificate.mean_kl:.4f}" if method.certificate else "-"
    seconds = (method.seconds.get(medium) for medium in ("sd", "usb", "nvme"))
    return [
        f"{method.row.artifact.quantisation.name} {method.mode}",
        gigabytes(method.row.peak),
        gigabytes(method.droppable) if method.droppable else "-",
        cell(method.row),
        *("-" if s is None else f"{s:.1f}" for s in seconds),
        quality,
    ]


def _savings(planner: Planner, place: Place) -> Section:
    return Section(
        f"Before, after and saved, in GB, at {place.name}",
        ["change", "file", "after", "saved", "", "memory", "after", "saved", ""],
        [_saving(s) for s in savings(planner, place)],
    )


def _saving(saving: Saving) -> list[str]:
    before, after = saving.before, saving.after
    return [
        f"{before.artifact.quantisation.name} to {after.artifact.quantisation.name}",
        gigabytes(before.artifact.bytes),
        gigabytes(after.artifact.bytes),
        gigabytes(saving.file),
        f"{saving.file_share:.0%}",
        gigabytes(before.peak),
        gigabytes(after.peak),
        gigabytes(saving.memory),
        f"{saving.memory_share:.0%}",
    ]


def _profiles(planner: Planner, place: Place) -> Section:
    rows, notes = [], []
    for name, profile in profiles().items():
        row, _ = under(planner, profile).choose(place)
        rates = [e.decode for e in row.artifact.estimates]
        rows.append(
            [
                name,
                gigabytes(place.room - place.budget(profile)),
                str(row.artifact.context),
                profile.kv_type,
                str(profile.micro_batch),
                row.artifact.quantisation.name,
                cell(row),
                f"{min(rates):.1f}" if rates else "-",
            ]
        )
        notes.append(f"{name}: {profile.summary}")
    headings = ["profile", "GB free", "context", "KV", "batch", "auto", "verdict", "t/s"]
    return Section(f"Profiles, at {place.name}", headings, rows, notes)


def under(planner: Planner, profile: Profile) -> Planner:
    """Return the planner with another profile and its own settings."""
    context = min(profile.context, planner.subject.shape.context)
    load = replace(
        planner.load, context=context, micro_batch=profile.micro_batch, kv_type=profile.kv_type
    )
    return replace(planner, profile=profile, load=load)


def to_json(report: Report) -> dict[str, Any]:
    """Return the numbers of the sections, for the largest place."""
    planner, place = report.planner, report.places[-1]
    return {
        "load_methods": [_method_json(m) for m in methods(planner, place)],
        "savings": [_saving_json(s) for s in savings(planner, place)],
        "profiles": {
            name: _choice_json(profile, *under(planner, profile).choose(place))
            for name, profile in profiles().items()
        },
    }


def _method_json(method: Method) -> dict[str, Any]:
    return {
        "quantisation": method.row.artifact.quantisation.name,
        "mode": method.mode,
        "place": method.row.place.name,
        "memory_bytes": method.row.peak,
        "droppable_bytes": method.droppable,
        "verdict": method.row.verdict.value,
        "load_seconds": method.seconds,
        "mean_kl": method.certificate.mean_kl if method.certificate else None,
    }


def _saving_json(saving: Saving) -> dict[str, Any]:
    return {
        "before": saving.before.artifact.quantisation.name,
        "after": saving.after.artifact.quantisation.name,
        "file_bytes_saved": saving.file,
        "file_share_saved": saving.file_share,
        "memory_bytes_saved": saving.memory,
        "memory_share_saved": saving.memory_share,
    }


def _choice_json(profile: Profile, row: Row, reason: str) -> dict[str, Any]:
    return {
        "summary": profile.summary,
        "budget_bytes": row.place.budget(profile),
        "context": row.artifact.context,
        "kv_type": profile.kv_type,
        "micro_batch": profile.micro_batch,
        "quantisation": row.artifact.quantisation.name,
        "verdict": row.verdict.value,
        "reason": reason,
    }
