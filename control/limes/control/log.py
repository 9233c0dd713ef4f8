"""How the control plane logs: for a person on a terminal, JSON lines elsewhere, to stderr.

Standard output belongs to data.
"""

import sys

import structlog


def configure(level: str) -> None:
    """Set structlog up to show `level` and above, unless the running program has done so."""
    if structlog.is_configured():
        return
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
