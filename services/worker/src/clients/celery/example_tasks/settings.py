"""What the operator sets for the example tasks."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

SAMPLES = Path(__file__).parent / "samples"


class ExampleTaskSettings(BaseSettings):
    """Read from the environment each time a task starts, so importing the tasks reads nothing."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_", env_ignore_empty=True, extra="ignore")

    documents: Path = Field(
        default=SAMPLES, description="Folder in which tasks find documents; the shipped samples unless set."
    )
    fetch_allow_private: bool = Field(
        default=False,
        description="Let fetch_url open loopback, private and link-local addresses. Whoever may submit tasks "
        "could then read what only the worker can reach, such as a cloud's metadata service.",
    )
