"""What to do at a halt, by its reason; for who reads a status as well."""

OF_LATER_VERSIONS = ("later_format", "unknown_kind", "unknown_command")  # reasons of halts that `skip` does not end


def way_out(reason: str, position: int) -> str:
    """What to type at a halt."""
    if reason in OF_LATER_VERSIONS:
        return "install the version of stream_ml that wrote it, and start again"
    return f"stream-ml skip CONFIG {position}"
