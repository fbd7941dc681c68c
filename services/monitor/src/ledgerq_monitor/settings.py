"""What the monitor reads from its environment."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class MonitorSettings(BaseSettings):
    """Where the monitor listens."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_MONITOR_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address of the monitor; loopback unless told otherwise.")
    port: int = Field(8001, ge=1, le=65535, description="Port of the monitor.")
