"""`hilum learn` and `hilum conformance`: from sample messages to a profile, from a message to what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.context import home_of
from hilum.core.errors import InvalidInput, NotFound
from hilum.settings import Settings

MOST_BYTES = 256 * 1024 * 1024
HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
Files = Annotated[list[Path], typer.Argument(help="Files with HL7 messages: one or many, with MLLP frames or without.")]


def learn(
    context: typer.Context,
    files: Files,
    write: Annotated[bool, typer.Option("--write", help="Write the profiles into the home, where they hold.")] = False,
    home: HomeOption = None,
) -> None:
    """Propose a profile for each sender of sample messages, with what could not be placed."""
    from hilum.hl7.learning import file_name, proposal
    from hilum.hl7.learning import learn as look

    settings = Settings.load(home_of(context, home))
    for samples in look(_messages(files), settings):
        if len(samples.sender) < 2 or not samples.kinds:
            print(f"# {samples.unreadable or samples.kinds.total()} messages say of no sender whose they are.")
            continue
        text = proposal(samples)
        if not write:
            print(text)
            continue
        if settings.hl7.peer_named(samples.sender) is not None:
            raise InvalidInput(f"There is a profile of {samples.sender} already; nothing was written for it.")
        folder = settings.paths.profiles
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = folder / file_name(samples.sender, [each.name for each in folder.iterdir()])
        file.write_text(text, encoding="utf-8")
        print(f"wrote {file}")


def conformance(
    context: typer.Context,
    files: Files,
    profile: Annotated[Path | None, typer.Option("--profile", help="A profile that is not in the home yet.")] = None,
    home: HomeOption = None,
) -> None:
    """Compare messages with the profiles of their senders; exit 1 where one would be refused."""
    from hilum.hl7.conformance import nonconformances

    settings = _with_profile(Settings.load(home_of(context, home)), profile)
    messages = _messages(files)
    faults = 0
    for number, raw in enumerate(messages, 1):
        for found in nonconformances(raw, settings):
            faults += found.weight == "fault"
            print(f"message {number}: {found}")
    print(f"{len(messages)} messages, {faults} faults")
    raise typer.Exit(1 if faults else 0)


def _messages(files: list[Path]) -> list[bytes]:
    from hilum.hl7.samples import messages_in

    found: list[bytes] = []
    for file in files:
        try:
            if file.stat().st_size > MOST_BYTES:
                raise InvalidInput(f"{file} is larger than {MOST_BYTES} bytes.")
            found += messages_in(file.read_bytes())
        except OSError as error:
            raise NotFound(f"{file} cannot be read ({error.strerror}).") from None
    if not found:
        raise InvalidInput("There is no message in these files.")
    return found


def _with_profile(settings: Settings, file: Path | None) -> Settings:
    """The settings with one more profile, in the place of the one of the same sender."""
    if file is None:
        return settings
    from hilum.settings.profile_files import read_profiles
    from hilum.settings.sections import Hl7Peer

    try:
        (values,) = read_profiles({file: file.read_bytes()})
    except OSError as error:
        raise NotFound(f"{file} cannot be read ({error.strerror}).") from None
    peer = Hl7Peer(**values)
    others = tuple(each for each in settings.hl7.peer if each.name != peer.name)
    return settings.model_copy(update={"hl7": settings.hl7.model_copy(update={"peer": (*others, peer)})})
