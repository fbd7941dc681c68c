"""Run once at each `docker compose up`: every secret that is missing is made and written into its volume.

A file of the same name in `deploy/compose/secrets/files` (`make secrets`) wins. Whatever is there already stays as it is.
Needs nothing but Python. The files are readable for every user of the containers that mount the volume, for each service
runs as somebody else; no other container and, on the host, nobody but root gets at them.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
from pathlib import Path
from urllib.parse import quote

ROOT = Path("/run/ledgerq")
#: For the services: where the stores are, and with which password.
STORES = ROOT / "secrets"
#: For people: the first API key. No service has this one.
ACCESS = ROOT / "access"
#: For Prometheus and Grafana.
OBSERVERS = ROOT / "observers"
GIVEN = ROOT / "given"

#: Where each secret goes that is made here. The API keys are `ledgerq keys create`'s; one that is given is passed on.
MADE = {
    "postgres_password": STORES,
    "redis_password": STORES,
    "flower_password": ACCESS,
    "grafana_password": OBSERVERS,
}
PASSED_ON = {"api_key": ACCESS, "metrics_key": OBSERVERS, "database_url": STORES, "redis_url": STORES}


def main() -> None:
    """Write what is missing or given, then what follows from it."""
    for name, folder in MADE.items():
        settle(folder / name, given(name) or read(folder / name) or secrets.token_hex(24))
    for name, folder in PASSED_ON.items():
        if text := given(name):
            settle(folder / name, text)
    password = {name: read(folder / name) for name, folder in MADE.items()}
    if not given("database_url"):
        settle(
            STORES / "database_url",
            f"postgresql://ledgerq:{quote(password['postgres_password'], safe='')}@postgres:5432/ledgerq",
        )
    if not given("redis_url"):
        settle(STORES / "redis_url", f"redis://:{quote(password['redis_password'], safe='')}@redis:6379/0")
    digest = hashlib.sha256(password["redis_password"].encode()).hexdigest()
    settle(STORES / "redis.acl", f"user default on #{digest} ~* &* +@all")
    settle(STORES / "ledgerq_flower_basic_auth", f"ledgerq:{password['flower_password']}")


def given(name: str) -> str:
    """What `make secrets` or a person has put there; empty if nothing."""
    return read(GIVEN / name)


def read(path: Path) -> str:
    """A file's text without blanks around it; empty if there is none."""
    try:
        return path.read_text("utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"secrets: cannot read {path.name}: {error}; it must be text that everybody may read")


def settle(path: Path, text: str) -> None:
    """Make the file say this, whole or not at all; nothing happens if it does."""
    if read(path) == text:
        return
    is_new = not path.exists()
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(f"{text}\n", "utf-8")
    partial.chmod(0o444)
    partial.replace(path)
    print(f"secrets: {path.name} is {'made' if is_new else 'changed'}")


if __name__ == "__main__":
    main()
