"""What `hilum check` says of routes and destinations, beyond what reading the configuration refuses."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from hilum.delivery.images import IMAGE_KINDS, OF_IMAGES
from hilum.delivery.rules import check_routes
from hilum.delivery.senders.smtp import recipients_of
from hilum.settings import Destination, Settings


def named(settings: Settings, names: Collection[str]) -> list[Destination]:
    """Return the destinations of these names."""
    return [each for each in settings.destination if each.name in names]


def check_delivery(settings: Settings, kinds: Collection[str]) -> list[str]:
    """Return a sentence for each thing that cannot work; `kinds` are those that this installation can send to."""
    found = check_routes(settings)
    images = {each.name for each in settings.destination if each.kind in IMAGE_KINDS}
    for number, route in enumerate(settings.route):
        if route.only and not images & set(route.to):
            found.append(f"route[{number}] has `only`, but none of its destinations takes images.")
        if route.send in OF_IMAGES and not set(route.to) <= images:
            found.append(f"route[{number}] sends {route.send} to a destination that takes no images.")
        if route.send == "availability" and any(each.kind == "stow" for each in named(settings, route.to)):
            found.append(f"route[{number}] sends availability by STOW-RS, which has no such message.")
        if route.send == "raw" and images & set(route.to):
            found.append(f"route[{number}] sends messages to a destination of images.")
    routed = {name for route in settings.route for name in route.to}
    for destination in settings.destination:
        if destination.kind not in kinds:
            able = ", ".join(sorted(kinds))
            found.append(
                f'Destination "{destination.name}" is of kind "{destination.kind}", which cannot be sent to; '
                f"the kinds are {able}."
            )
        elif destination.kind == "smtp":
            try:
                recipients_of(urlsplit(destination.address))
            except ValueError:
                found.append(f'Destination "{destination.name}" names no recipients: smtp://HOST/NAME@EXAMPLE.')
        if destination.name not in routed:
            found.append(f'No route leads to destination "{destination.name}".')
    return found
