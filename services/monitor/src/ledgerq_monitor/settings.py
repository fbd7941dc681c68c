"""Settings that the monitor reads from its environment."""

from typing import Self

from pydantic import Field, FiniteFloat, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledgerq_shared.languages import say
from ledgerq_shared.settings import is_loopback


class MonitorSettings(BaseSettings):
    """Where the monitor listens, and how it looks at the stores."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_MONITOR_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address of the monitor; any but loopback needs a token.")
    port: int = Field(8001, ge=1, le=65535, description="Port of the monitor.")
    token: SecretStr | None = Field(
        None, description="`/metrics` then asks for `Authorization: Bearer <token>`; without it anybody may scrape."
    )
    allow_anonymous: bool = Field(
        False,
        description="Listen on an address other than loopback without a token: for a network of which everybody may scrape.",
    )
    cache_seconds: FiniteFloat = Field(
        5.0, ge=0, le=300, description="Figures younger than this are given again, however often somebody scrapes."
    )
    timeout: FiniteFloat = Field(
        3.0, gt=0, le=60, description="Seconds after which a scrape goes on without what has not answered."
    )
    most_names: int = Field(
        200, ge=1, le=10_000, description="Task types and queues with series of their own; the rest counts as `other`."
    )
    disk_budget: int = Field(
        50 * 2**30, ge=1, description="How large the database may become, in bytes: the alert on disk growth compares."
    )

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if not (self.token or self.allow_anonymous or is_loopback(self.host)):
            raise ValueError(
                say(
                    "LEDGERQ_MONITOR_HOST={host} is not a loopback address, and anybody could scrape: set "
                    "LEDGERQ_MONITOR_TOKEN, listen on 127.0.0.1, or set LEDGERQ_MONITOR_ALLOW_ANONYMOUS=true to let "
                    "anybody in",
                    host=self.host,
                )
            )
        return self
