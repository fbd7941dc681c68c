"""What Flower reads from its environment."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, FiniteFloat, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledgerq_shared.languages import say
from ledgerq_shared.settings import StoreSettings, is_loopback


class FlowerStores(StoreSettings):
    """Where Redis and the ledger are; without the ledger, Flower shows only what workers send."""

    # pydantic-settings would validate the default, too, and this one is not a URL.
    database_url: str = Field("", validate_default=False)


class EventSettings(BaseSettings):
    """Settings that Flower shares with the workers that send it events."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_", extra="ignore")

    events_per_second: FiniteFloat = Field(
        100.0,
        ge=0,
        description="Most new tasks a second that Flower takes from the ledger, as many as it hears of from a worker; more "
        "at once follow in the next minute, or are left out. 0: none.",
    )


class HostSettings(BaseSettings):
    """Settings that Flower shares with the API."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_", extra="ignore")

    allowed_hosts: str = Field(
        "",
        description="Names under which Flower may be called while it asks for no login, beside loopback names and "
        "addresses, as for the API.",
    )


class FlowerSettings(BaseSettings):
    """Where Flower listens, who may look, and whether they may do more than that."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_FLOWER_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address of Flower; any but loopback needs basic auth or OAuth.")
    port: int = Field(5555, ge=1, le=65535, description="Port of Flower.")
    url_prefix: str = Field("", description="Path under which a proxy shows it, such as `flower`.")
    basic_auth: SecretStr | None = Field(None, description="`user:password`; several separated by commas.")
    oauth_provider: Literal["google", "github", "gitlab", "okta"] | None = Field(
        None, description="Log in there instead; then the other OAuth settings are needed."
    )
    oauth_key: str | None = Field(None, description="OAuth client id.")
    oauth_secret: SecretStr | None = Field(None, description="OAuth client secret.")
    oauth_redirect_uri: str | None = Field(None, description="Where the provider sends people back to: `…/login`.")
    oauth_emails: str | None = Field(None, description="Who may: `a@x.org|b@x.org`, or `.*@x.org`.")
    cookie_secret: SecretStr | None = Field(
        None, description="Signs the logins of OAuth; random at each start unless set, so that people log in again."
    )
    read_only: bool = Field(True, description="Nobody can revoke, send or control anything here.")
    max_tasks: int = Field(10_000, ge=1, le=1_000_000, description="Tasks kept in memory; older ones leave the page.")
    inspect_timeout: float = Field(2.0, gt=0, le=60, description="Seconds to wait for workers' answers.")

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if self.oauth_provider and not (
            self.oauth_key and self.oauth_secret and self.oauth_redirect_uri and self.oauth_emails
        ):
            raise ValueError(
                say("LEDGERQ_FLOWER_OAUTH_PROVIDER needs LEDGERQ_FLOWER_OAUTH_KEY, _SECRET, _REDIRECT_URI and _EMAILS")
            )
        if any(":" not in one for one in self.credentials):
            raise ValueError(say("LEDGERQ_FLOWER_BASIC_AUTH: `user:password` is expected, several separated by commas"))
        if not (self.credentials or self.oauth_provider or is_loopback(self.host)):
            raise ValueError(
                say(
                    "LEDGERQ_FLOWER_HOST={host} is not a loopback address, and anybody could look: set "
                    "LEDGERQ_FLOWER_BASIC_AUTH or LEDGERQ_FLOWER_OAUTH_PROVIDER, or listen on 127.0.0.1",
                    host=self.host,
                )
            )
        return self

    @property
    def credentials(self) -> list[str]:
        """Those of basic auth, each ``user:password``."""
        text = "" if self.basic_auth is None else self.basic_auth.get_secret_value()
        return [one.strip() for one in text.split(",") if one.strip()]
