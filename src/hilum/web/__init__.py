"""The pages for people: worklist, order with images and report, exceptions. `routes` is all that `app` needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hilum.web.door import routes

__all__ = ["routes"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `serve`, which imports the models alone, does not load every page.
    if name == "routes":
        from hilum.web.door import routes

        return routes
    raise AttributeError(name)
