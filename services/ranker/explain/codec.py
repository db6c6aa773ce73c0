"""Captures as bytes. Nothing is compressed: whoever searches files for an id sees every byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.common.assign.assign import Assignment
from services.common.assign.assign import Reason as AssignedBy
from services.common.errors import InvalidArgument
from services.ranker.catalogue.disk import (
    Arrays,
    packed,
    packed_strings,
    unpacked,
    unpacked_strings,
)
from services.ranker.explain.capture import Capture, CapturedSlate
from services.ranker.explain.codec_command import command_of, command_text
from services.ranker.explain.container import pack, unpack
from services.ranker.explain.versions import Origin, Versions
from services.ranker.feature_rows import FeatureRows, View, ViewColumn
from services.ranker.types import Degradation, Part, Placement, Reason

FORMAT: Final = 1

_Stored = Mapping[str, npt.NDArray[np.generic]]


def to_bytes(capture: Capture) -> bytes:
    """The file of a capture."""
    arrays = _row_arrays(capture.rows) | packed("items/", capture.table)
    arrays |= {"vectors": capture.vectors, "weights": capture.weights}
    arrays |= {f"found{at}": slots for at, slots in enumerate(capture.found)}
    arrays |= {f"team{at}": weights for at, weights in enumerate(capture.teams.values())}
    if capture.adjustments is not None:
        arrays["adjustments"] = capture.adjustments
    if capture.shortfall is not None:
        arrays["shortfall"] = capture.shortfall
    if capture.factors is not None:
        arrays["factors"] = capture.factors
    if capture.item_logits is not None:
        arrays["item_logits"] = capture.item_logits
    arrays["slate/values"] = capture.slate.values
    arrays["slate/predictions"] = capture.slate.predictions
    arrays["slate/log_propensities"] = capture.slate.log_propensities
    return pack(_header(capture), arrays)


def from_bytes(data: bytes) -> Capture:
    """The capture in a file. Raises ``InvalidArgument`` (BAD_CAPTURE) where it is none."""
    try:
        header, stored = unpack(data)
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']} is not supported, {FORMAT} is")
        return _capture(header, stored)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidArgument(f"not a capture: {error}", reason="BAD_CAPTURE") from error


def _header(capture: Capture) -> dict[str, Any]:
    table, slate, versions = capture.table, capture.slate, capture.versions
    return {
        "format": FORMAT,
        "rank_id": capture.rank_id,
        "now_ms": capture.now_ms,
        "command": command_text(capture.command),
        "seed": capture.seed,
        "bundle": versions.bundle,
        "domain": versions.origin.domain_hash,
        "experiments": versions.origin.experiments_hash,
        "feature_view": versions.feature_view,
        "log_position": versions.log_position,
        "catalogue": versions.catalogue,
        "level": capture.level,
        "batch_size": capture.batch_size,
        "assignments": [
            [a.experiment_key, a.variant_key, a.reason.value, a.bucket, a.unit_type, a.revision]
            for a in capture.assignments
        ],
        "teams": list(capture.teams),
        "found": len(capture.found),
        "degraded": [[d.part.name, d.reason.name, d.name, d.age_ms] for d in capture.degraded],
        "row": _row_header(capture.rows),
        "entity": table.entity,
        "view": [table.view.name, table.view.hash],
        "columns": [[c.name, c.dtype, c.default] for c in table.view.columns],
        "slate": {
            "policy": slate.policy,
            "ids": list(slate.ids),
            "sources": list(slate.sources),
            "objectives": list(slate.objectives),
            "placements": [how.name for how in slate.placements],
            "teams": list(slate.teams),
        },
    }


def _capture(header: Mapping[str, Any], stored: _Stored) -> Capture:
    columns = tuple(ViewColumn(*column) for column in header["columns"])
    view = View(header["view"][0], header["view"][1], columns)
    slate = header["slate"]
    return Capture(
        rank_id=header["rank_id"],
        now_ms=header["now_ms"],
        command=command_of(header["command"]),
        seed=header["seed"],
        versions=Versions(
            bundle=header["bundle"],
            origin=Origin(header["domain"], header["experiments"]),
            feature_view=header["feature_view"],
            log_position=header["log_position"],
            catalogue=header["catalogue"],
        ),
        level=header["level"],
        batch_size=header["batch_size"],
        assignments=[
            Assignment(key, variant, AssignedBy(reason), bucket, unit, revision)
            for key, variant, reason, bucket, unit, revision in header["assignments"]
        ],
        weights=stored["weights"].astype(np.float32),
        teams={
            team: stored[f"team{at}"].astype(np.float32) for at, team in enumerate(header["teams"])
        },
        rows=_row(header["row"], stored),
        table=unpacked("items/", header["entity"], view, stored),
        vectors=stored["vectors"].astype(np.float32),
        found=[stored[f"found{at}"].astype(np.int64) for at in range(header["found"])],
        adjustments=_floats(stored, "adjustments"),
        shortfall=_floats(stored, "shortfall"),
        factors=_floats(stored, "factors"),
        degraded=[
            Degradation(Part[part], Reason[reason], name, age_ms)
            for part, reason, name, age_ms in header["degraded"]
        ],
        slate=CapturedSlate(
            policy=slate["policy"],
            ids=slate["ids"],
            sources=slate["sources"],
            values=stored["slate/values"].astype(np.float32),
            objectives=tuple(slate["objectives"]),
            predictions=stored["slate/predictions"].astype(np.float32),
            placements=[Placement[how] for how in slate["placements"]],
            teams=slate["teams"],
            log_propensities=stored["slate/log_propensities"].astype(np.float64),
        ),
        item_logits=_floats(stored, "item_logits"),
    )


def _floats(stored: _Stored, name: str) -> npt.NDArray[np.float32] | None:
    return stored[name].astype(np.float32) if name in stored else None


def _row_header(rows: FeatureRows) -> dict[str, Any]:
    return {
        "id": rows.ids[0],
        "floats": list(rows.float_names),
        "ints": list(rows.int_names),
        "strings": list(rows.string_names),
        "lists": list(rows.list_names),
        "vectors": [list(rows.vector_names), list(rows.vector_dims)],
        "log_position": rows.log_position,
        "evaluated_ms": rows.evaluated_ms,
    }


def _row_arrays(rows: FeatureRows) -> Arrays:
    return {
        "row/floats": rows.floats,
        "row/ints": rows.ints,
        "row/offsets": rows.list_offsets,
        "row/statuses": rows.statuses,
        "row/vectors": rows.vectors,
        **packed_strings("row/strings", rows.strings),
        **packed_strings("row/lists", rows.list_values),
    }


def _row(header: Mapping[str, Any], stored: _Stored) -> FeatureRows:
    def names(kind: str) -> tuple[str, ...]:
        listed: Sequence[str] = header[kind]
        return tuple(listed)

    return FeatureRows(
        ids=[header["id"]],
        float_names=names("floats"),
        floats=stored["row/floats"].astype(np.float32),
        int_names=names("ints"),
        ints=stored["row/ints"].astype(np.int64),
        string_names=names("strings"),
        strings=unpacked_strings("row/strings", stored),
        list_names=names("lists"),
        list_offsets=stored["row/offsets"].astype(np.int32),
        list_values=unpacked_strings("row/lists", stored),
        statuses=stored["row/statuses"].astype(np.uint8),
        log_position=header["log_position"],
        evaluated_ms=header["evaluated_ms"],
        **_row_vectors(header, stored),
    )


def _row_vectors(header: Mapping[str, Any], stored: _Stored) -> dict[str, Any]:
    """None of a capture from before rows had them."""
    if "vectors" not in header:
        return {}
    names, dims = header["vectors"]
    vectors = stored["row/vectors"].astype(np.float32)
    return {"vector_names": tuple(names), "vector_dims": tuple(dims), "vectors": vectors}
