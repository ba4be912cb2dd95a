"""Reading the configuration: file and environment become one checked, frozen `Settings`, or one sentence of refusal."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from hilum.settings.errors import SettingsError
from hilum.settings.identity import SecuritySettings
from hilum.settings.image_rules import ImageRule
from hilum.settings.paths import HomePaths
from hilum.settings.profile_files import profile_content, read_profiles
from hilum.settings.sections import (
    ArchiveSettings,
    AuditSettings,
    DatabaseSettings,
    Destination,
    DicomSettings,
    FacilitySettings,
    Hl7Settings,
    HttpSettings,
    LogSettings,
    PriorsSettings,
    Route,
    StudySettings,
    WorklistSettings,
)
from hilum.settings.viewing import ViewerSettings

FILE_NAME = "hilum.toml"
PREFIX = "HILUM_"
MAX_FILE_BYTES = 4 * 1024 * 1024


class _Environment(EnvSettingsSource):
    """The environment without HILUM_HOME, which names the home only where no argument does."""

    def __call__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__call__().items() if key != "home"}


class Settings(BaseSettings):
    """One snapshot of the configuration; it never changes, a newer one takes its place."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__", case_sensitive=False
    )

    home: Path = Field(default=Path("hilum-home"), exclude=True)
    http: HttpSettings = HttpSettings()
    dicom: DicomSettings = DicomSettings()
    hl7: Hl7Settings = Hl7Settings()
    database: DatabaseSettings = DatabaseSettings()
    archive: ArchiveSettings = ArchiveSettings()
    facility: FacilitySettings = FacilitySettings()
    worklist: WorklistSettings = WorklistSettings()
    study: StudySettings = StudySettings()
    priors: PriorsSettings = PriorsSettings()
    security: SecuritySettings = SecuritySettings()
    audit: AuditSettings = AuditSettings()
    viewer: ViewerSettings = ViewerSettings()
    log: LogSettings = LogSettings()
    destination: tuple[Destination, ...] = ()
    route: tuple[Route, ...] = ()
    rule: tuple[ImageRule, ...] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment stands above what is handed in, which is the file."""
        return _Environment(settings_cls), init_settings

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Self:
        names = [destination.name for destination in self.destination]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f'two destinations are named "{twice}"')
        for route in self.route:
            for name in route.to:
                if name not in names:
                    raise ValueError(f'a route on {route.on} leads to "{name}", which is no destination')
        return self

    @property
    def paths(self) -> HomePaths:
        """Where things are in the home."""
        return HomePaths(self.home)

    def destination_named(self, name: str) -> Destination | None:
        """The destination of this name, if it is configured."""
        return next((destination for destination in self.destination if destination.name == name), None)

    @classmethod
    def load(cls, home: Path | str | None = None) -> Settings:
        """Read the configuration of a home (argument, else HILUM_HOME, else ./hilum-home). Raises SettingsError."""
        directory = home_directory(home)
        return read_settings(directory, file_content(directory), profile_content(HomePaths(directory).profiles))


def home_directory(home: Path | str | None = None) -> Path:
    """The home as an absolute path: the argument, else HILUM_HOME, else ./hilum-home."""
    chosen = home or os.environ.get("HILUM_HOME") or "hilum-home"
    return Path(chosen).expanduser().absolute()


def file_content(home: Path) -> bytes:
    """The bytes of `hilum.toml`, none where it does not exist. Raises SettingsError."""
    file = HomePaths(home).file
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read ({error.strerror}).") from None
    if len(content) > MAX_FILE_BYTES:
        raise SettingsError(f"{file}: is larger than {MAX_FILE_BYTES} bytes.")
    return content


def revision_of(content: bytes, profiles: Mapping[Path, bytes] | None = None) -> str:
    """What names a configuration: the SHA-256 of its files and of the environment that overrides them."""
    digest = hashlib.sha256(content)
    for profile, raw in sorted((profiles or {}).items()):
        digest.update(b"\0" + profile.name.encode("utf-8", "surrogateescape") + b"\0" + hashlib.sha256(raw).digest())
    for name, value in sorted(_environment().items()):
        digest.update(f"\0{name}={value}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def read_settings(home: Path, content: bytes, profiles: Mapping[Path, bytes] | None = None) -> Settings:
    """Check the content of a `hilum.toml` and of profiles together with the environment. Raises SettingsError."""
    file = HomePaths(home).file
    try:
        values = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: is not UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{file}: is not TOML: {error}.") from None
    if "home" in values:
        raise SettingsError(f"{file}: there is no setting `home`; the home is where the file is.")
    _refuse_unknown_variables()
    if profiles:
        section = values.setdefault("hl7", {})
        peers = section.setdefault("peer", []) if isinstance(section, dict) else []
        if isinstance(peers, list):
            peers.extend(read_profiles(profiles))
    try:
        return Settings(home=home, **values)
    except ValidationError as error:
        raise SettingsError(_sentence(error, file)) from None
    except SourceError as error:
        raise SettingsError(f"{_culprit(str(error))}: is not JSON, which this setting needs there.") from None


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}


def _refuse_unknown_variables() -> None:
    """Refuse `HILUM_HTPP__BIND`: the source reads only what it knows and would pass over it."""
    for name in _environment():
        section, nested, _ = name.upper().removeprefix(PREFIX).partition("__")
        if nested and section.lower() not in Settings.model_fields:
            raise SettingsError(f"{name}: there is no section `{section.lower()}`{_meant(section, Settings)}.")


def _culprit(message: str) -> str:
    """The variable whose value the environment source could not parse; its error names only the section."""
    section = message.split('"')[1] if '"' in message else ""
    for name, value in sorted(_environment().items()):
        path = name.upper().removeprefix(PREFIX).split("__")
        if path[0].lower() == section and _is_complex(path) and not _is_json(value):
            return name
    return f"{PREFIX}{section.upper()}"


def _is_complex(path: Sequence[str]) -> bool:
    model: Any = Settings
    for step in path:
        fields = getattr(model, "model_fields", {})
        model = next((info.annotation for key, info in fields.items() if key.upper() == step), None)
    return get_origin(model) is tuple or (isinstance(model, type) and issubclass(model, BaseModel))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _sentence(error: ValidationError, file: Path) -> str:
    """One sentence for the first thing that is wrong: where it is, and what; never the value, which may be a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = first["loc"]
    source = _variable_of(place) or str(file)
    if not place:
        return f"{source}: {_clause(first['msg'])}."
    if first["type"] == "extra_forbidden":
        model = _model_at(place[:-1])
        return f"{source}: there is no setting `{_dotted(place)}`{_meant(str(place[-1]), model)}."
    if first["type"] == "missing":
        return f"{source}: `{_dotted(place)}` is missing."
    return f"{source}: `{_dotted(place)}` {_clause(first['msg'])}."


def _clause(message: str) -> str:
    """Pydantic's message, so that it follows the name of a setting."""
    text = message.removeprefix("Value error, ")
    if text == message:
        text = text[0].lower() + text[1:]
        text = f"is not valid: {text}"
    return text


def _dotted(place: Sequence[int | str]) -> str:
    """`dicom.peer[0].address`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")


def _variable_of(place: Sequence[int | str]) -> str | None:
    """The environment variable that set this key, if one did."""
    names = {name.upper(): name for name in _environment()}
    steps = [str(step).upper() for step in place]
    candidates = (PREFIX + "__".join(steps[:depth]) for depth in range(len(steps), 0, -1))
    return next((names[candidate] for candidate in candidates if candidate in names), None)


def _model_at(place: Sequence[int | str]) -> type[BaseModel] | None:
    """The model whose key was looked for, to say which keys it has."""
    model: Any = Settings
    for step in place:
        if isinstance(step, int):
            continue
        info = getattr(model, "model_fields", {}).get(step)
        model = info.annotation if info is not None else None
        model = next(iter(get_args(model)), model)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _meant(key: str, model: type[BaseModel] | None) -> str:
    """`, perhaps …` for a slip of the pen."""
    if model is None:
        return ""
    keys = [info.alias or name for name, info in model.model_fields.items() if name != "home"]
    close = difflib.get_close_matches(key.lower(), keys, n=1)
    return f", perhaps `{close[0]}`" if close else ""
