"""What the monitor reads from its environment."""

from pydantic import Field, FiniteFloat, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class MonitorSettings(BaseSettings):
    """Where the monitor listens, and how it looks at the stores."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_MONITOR_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address of the monitor; loopback unless told otherwise.")
    port: int = Field(8001, ge=1, le=65535, description="Port of the monitor.")
    token: SecretStr | None = Field(
        None, description="`/metrics` then asks for `Authorization: Bearer <token>`; without it anybody may scrape."
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
