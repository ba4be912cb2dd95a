"""Who may sign in, and who else may say who someone is: sessions and OpenID providers."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from hilum.core.actor import Role
from hilum.settings.addresses import LOOPBACK, Authority, Name
from hilum.settings.sections import Section

Claim = Annotated[str, Field(pattern=r"^[A-Za-z0-9_:/.-]{0,128}$")]


class OidcProvider(Section):
    """An OpenID Connect provider whose word on who a person is counts here."""

    name: Name = Field(description="Its name in addresses: the provider calls back at `/auth/oidc/NAME/callback`.")
    label: str = Field(default="", max_length=64, description="What its button says; empty for the name.")
    issuer: str = Field(
        max_length=512, description="Its issuer, letter by letter; https, or http on this machine for a trial."
    )
    client_id: str = Field(min_length=1, max_length=256, description="What it knows Hilum by.")
    client_secret_file: str = Field(
        default="", description="File with the client secret, in the home; empty for a public client."
    )
    ca: str = Field(default="", description="Authorities that sign its certificate, PEM; empty for the system's.")
    scopes: tuple[str, ...] = Field(default=("openid", "profile"), description="What it is asked for.")
    name_claim: Claim = Field(default="preferred_username", description="Claim with the account's name here.")
    display_claim: Claim = Field(default="name", description="Claim with the name that pages and reports show.")
    groups_claim: Claim = Field(default="groups", description="Claim with the groups of a person.")
    identifier_claim: Claim = Field(
        default="", description="Claim with the identifier(s) of a person in messages; empty: as the account has them."
    )
    identifier_authority: Authority = Field(default="", description="Assigning authority of those identifiers.")
    roles: dict[str, Role] = Field(
        default={},
        description="`GROUP = ROLE`; the first that a person is in counts at each sign-in, and without one nobody "
        "gets in. Empty: the role of the account stays.",
    )
    create: bool = Field(default=False, description="Whether someone without an account gets one at the first sign-in.")
    link_by_name: bool = Field(
        default=False,
        description="Whether an account made here is theirs by its name alone; else `hilum user link` says so.",
    )

    @field_validator("issuer")
    @classmethod
    def _issuer_is_secure(cls, issuer: str) -> str:
        parts = urlsplit(issuer)
        if parts.query or parts.fragment or not is_secure(issuer):
            raise ValueError("is no https address (http only on this machine)")
        return issuer

    @model_validator(mode="after")
    def _new_accounts_need_roles(self) -> Self:
        if self.create and not self.roles:
            raise ValueError("create = true needs roles, or new accounts would have none")
        if "openid" not in self.scopes:
            raise ValueError('scopes lack "openid"')
        return self


class SecuritySettings(Section):
    """Sign-in."""

    session_minutes: int = Field(default=480, ge=5, le=1_440, description="Longest time until a person signs in again.")
    idle_minutes: int = Field(default=30, ge=1, le=1_440, description="Minutes without a request that end a session.")
    break_glass_hours: int = Field(default=4, ge=1, le=24, description="How long emergency access to a patient lasts.")
    password_again: bool = Field(
        default=False, description="Whether signing or withdrawing a report asks for the password again."
    )
    token_minutes: int = Field(default=5, ge=1, le=60, description="How long the token of a service client holds.")
    oidc: tuple[OidcProvider, ...] = Field(default=(), description="OpenID Connect providers for signing in.")

    @model_validator(mode="after")
    def _providers_are_told_apart(self) -> Self:
        for key in ("name", "issuer"):
            values = [getattr(provider, key) for provider in self.oidc]
            if len(set(values)) < len(values):
                raise ValueError(f"two providers have the same {key}")
        return self

    def provider_named(self, name: str) -> OidcProvider | None:
        """The provider of this name, if it is configured."""
        return next((provider for provider in self.oidc if provider.name == name), None)


def is_secure(url: str) -> bool:
    """Tell whether an address is https, or http on this machine."""
    try:
        parts = urlsplit(url)
        secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        return secure and bool(parts.hostname) and parts.username is None and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
