"""Times as options have them."""

from stream_ml.errors import ConfigError
from stream_ml.units import time_ms


def time_of(text: str | None, option: str) -> int | None:
    """Milliseconds of what was typed; ConfigError where it is no time."""
    try:
        return None if text is None else time_ms(text)
    except ValueError:
        raise ConfigError(f"{option}: {text} is no time", "write 2026-11-27T08:10:00Z, or 2026-11-27") from None
