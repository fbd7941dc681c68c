"""Runs once at each `docker compose up`: it makes every missing secret and writes it into its volume.

A file of the same name in `deploy/compose/secrets/files` (`make secrets`) takes precedence. A secret that exists
already is not changed. Needs nothing but Python. Every user of the containers that mount the volume can read the files,
because each service runs as another user; no other container can read them, and on the host only root can.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
from pathlib import Path
from urllib.parse import quote

ROOT = Path("/run/ledgerq")
#: For the services: where the stores are, and with which password.
STORES = "secrets"
#: For people: the first API key. No service has this one.
ACCESS = "access"
#: For Prometheus and Grafana.
OBSERVERS = "observers"
#: What `make secrets` or a person has put there.
GIVEN = "given"

#: The volume of each secret that is made here. `ledgerq keys create` makes the API keys; a given key is passed on.
MADE = {
    "postgres_password": STORES,
    "redis_password": STORES,
    "flower_password": ACCESS,
    "grafana_password": OBSERVERS,
}
PASSED_ON = {
    "api_key": ACCESS,
    "metrics_key": OBSERVERS,
    "database_url": STORES,
    "database_replica_url": STORES,
    "redis_url": STORES,
}


#: The rights that the services, Celery and Flower need in Redis: any key and channel, and the commands that work on
#: them. Settings, replication, emptying the server and modules are not allowed.
REDIS_RIGHTS = (
    "~* &* -@all +@connection +@read +@write +@transaction +@pubsub -@admin -@dangerous "
    "+info +time +eval +evalsha +script|load +script|exists"
)


def main(root: Path = ROOT) -> None:
    """Write secrets that are missing or given, and then the files that are made from them."""
    given = {name: read(root / GIVEN / name) for name in (*MADE, *PASSED_ON)}
    value = {}
    for name, folder in MADE.items():
        value[name] = given[name] or read(root / folder / name) or secrets.token_hex(24)
        settle(root / folder / name, value[name])
    for name, folder in PASSED_ON.items():
        if given[name]:
            settle(root / folder / name, given[name])
    stores = root / STORES
    if not given["database_url"]:
        password = quote(value["postgres_password"], safe="")
        settle(stores / "database_url", f"postgresql://ledgerq:{password}@postgres:5432/ledgerq")
    if not given["redis_url"]:
        settle(stores / "redis_url", f"redis://:{quote(value['redis_password'], safe='')}@redis:6379/0")
    digest = hashlib.sha256(value["redis_password"].encode()).hexdigest()
    settle(stores / "redis.acl", f"user default on #{digest} {REDIS_RIGHTS}")
    settle(stores / "ledgerq_flower_basic_auth", f"ledgerq:{value['flower_password']}")


def read(path: Path) -> str:
    """A file's text without blanks around it; empty if there is none."""
    try:
        return path.read_text("utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"secrets: cannot read {path.name}: {error}; it must be text that everybody may read")


def settle(path: Path, text: str) -> None:
    """Write this text into the file, completely or not at all; do nothing if the file has it already."""
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
