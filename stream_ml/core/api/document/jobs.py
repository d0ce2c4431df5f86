"""Jobs in the API's document."""

from typing import Any, get_args

from stream_ml.core.api.jobs import Status


def is_of_jobs(path: str) -> bool:
    """Whether a path belongs to jobs."""
    return path == "/v1/jobs" or path.startswith("/v1/jobs/")


def bodies(method: str, path: str) -> tuple[dict[str, Any] | None, int, dict[str, Any]]:
    """Schema of the request, where there is one, status and schema of the answer."""
    if method == "POST":
        return _ref("JobAsked"), 202, _ref("Job")
    if path.endswith("/results"):
        return None, 200, {"type": "string", "description": "a line of JSON a row: row, what a prediction has, version"}
    return None, 200, _ref("Jobs") if path == "/v1/jobs" else _ref("Job")


def schemas(rows_max: int) -> dict[str, Any]:
    """Those that the document names.

    Parameters
    ----------
    rows_max
        Instances of one job.
    """
    event = {"$ref": "#/components/schemas/Event"}
    whole = {"type": "integer", "minimum": 0}
    return {
        "JobAsked": {
            "type": "object",
            "required": ["instances"],
            "description": "or application/x-ndjson: an instance a line",
            "additionalProperties": False,
            "properties": {"instances": {"type": "array", "items": event, "minItems": 1, "maxItems": rows_max}},
        },
        "Job": {
            "type": "object",
            "required": ["id", "status", "rows", "done", "failed", "created_ms", "expires_ms", "versions"],
            "properties": {
                "id": {"type": "string"},
                "status": {"type": "string", "enum": [*get_args(Status)]},
                "rows": whole,
                "done": {**whole, "description": "rows that are scored"},
                "failed": {**whole, "description": "rows for which the model raised"},
                "created_ms": whole,
                "expires_ms": whole,
                "versions": {"type": "array", "items": {"type": "string"}, "description": "first and last, if any"},
            },
        },
        "Jobs": {
            "type": "object",
            "required": ["jobs"],
            "properties": {"jobs": {"type": "array", "items": _ref("Job")}},
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
