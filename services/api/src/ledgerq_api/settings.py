"""Settings that only the API reads from the environment."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledgerq_api.requests.prefix import is_prefix
from ledgerq_shared.languages import Locale, named, say
from ledgerq_shared.settings import is_loopback


class ApiSettings(BaseSettings):
    """How the API listens and answers."""

    model_config = SettingsConfigDict(env_prefix="LEDGERQ_", extra="ignore")

    api_host: str = Field("127.0.0.1", description="Address to listen on.")
    api_port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    api_keep_alive: int = Field(
        75, ge=1, le=3600, description="Seconds that a connection may be idle; longer than the proxy in front keeps it."
    )
    api_connections: int = Field(10_000, ge=10, le=1_000_000, description="Open connections of one API process.")
    api_memory_budget: int = Field(
        48,
        ge=18,
        le=65_536,
        description="MiB of request bodies, and of answers that nobody has read yet, which one API process holds at a "
        "time; what would be more is answered 503. It takes about five times as much memory.",
    )
    api_reload: bool = Field(False, description="Restart on an edit of the services' or the task modules' code.")
    api_access_log: bool = Field(
        False,
        description="Write a line of JSON to standard error for each answer, at its end, whatever the log's format and "
        "level are.",
    )
    allow_anonymous: bool = Field(
        False,
        description="Listen on an address other than loopback although no API key was ever made, so that anybody may "
        "call it. Once one was made, keys are needed whatever this says.",
    )
    root_path: str = Field(
        "",
        description="Path below which a proxy shows the API, such as `/queue`; whether the proxy takes it away or not.",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks of proxies, comma separated, whose `X-Forwarded-For` and `X-Forwarded-Prefix` "
        "are believed.",
    )
    allowed_hosts: str = Field(
        "",
        description="Names under which this server may be called while no API key is needed, beside loopback names and "
        "addresses, comma separated; pages of these hosts may also change something. `.example.org`: every name below "
        "it; `*`: any, for a network without browsers. Flower goes by it while it asks for no login.",
    )
    key_rate: float = Field(
        0.0, ge=0, le=1_000_000, description="Requests a second that each API key may make to one API process; 0: any."
    )
    key_burst: int = Field(
        0, ge=0, le=1_000_000, description="Requests that a key may make at once; 0: those of one second."
    )
    queues_per_key: int = Field(
        1000,
        ge=0,
        le=1_000_000,
        description="New queues that each API key may name, by submits and `PUT /queues/{name}`, in all; 0: any number. "
        "Callers without a key count as one. Queues that exist may be used by all.",
    )
    locale: Locale | None = Field(
        None,
        description="`zh` or `en` (`zh_CN.UTF-8` and the like, too): the language of messages for clients whose "
        "`Accept-Language` names neither, and of what the launcher and all commands write for people. Unset: English; only "
        "the `message` of `POST /tasks/submit` is Chinese then.",
    )
    ledger_timeout: float = Field(
        10.0,
        gt=0,
        le=300,
        description="Seconds that a request waits for PostgreSQL before it is answered 503.",
    )
    resend_seconds: float = Field(
        10.0,
        ge=0,
        le=60,
        description="Seconds for which an API process keeps what it has accepted (32 MiB at most), to send "
        "it again under the same ids where the ledger went back in time: after an asynchronous failover, or a restore. "
        "0: never.",
    )
    scaling_drain_seconds: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="`GET /scaling`: seconds within which a backlog should be drained.",
    )
    scaling_run_seconds: float = Field(
        1.0,
        gt=0,
        le=86_400,
        description="`GET /scaling`: run time that a task is taken to have where none has run yet, in seconds.",
    )

    @field_validator("locale", mode="before")
    @classmethod
    def _named_locale(cls, name: object) -> object:
        if not isinstance(name, str):
            return name
        return named(name) or name.strip() or None

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, path: str) -> str:
        if path.rstrip("/") and not is_prefix(path):
            raise ValueError(say("a path such as /queue is expected"))
        return path.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, text: str) -> str:
        networks_of(text)
        return text

    @property
    def proxies(self) -> list[IPv4Network | IPv6Network]:
        """``trusted_proxies`` as networks."""
        return networks_of(self.trusted_proxies)

    @property
    def is_open(self) -> bool:
        """Whether callers need no key as long as none was ever created."""
        return self.allow_anonymous or is_loopback(self.api_host)


def networks_of(text: str) -> list[IPv4Network | IPv6Network]:
    """Networks of a comma separated list.

    Raises:
        ValueError: an entry is neither an address nor a network.
    """
    return [_network(one.strip()) for one in text.split(",") if one.strip()]


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise ValueError(say("{text!r} is neither an address nor a network", text=text)) from None
