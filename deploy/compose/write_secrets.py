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
STORES = "secrets"
#: For people: the first API key. No service has this one.
ACCESS = "access"
#: For Prometheus and Grafana.
OBSERVERS = "observers"
#: What `make secrets` or a person has put there.
GIVEN = "given"

#: Where each secret goes that is made here. The API keys are `ledgerq keys create`'s; one that is given is passed on.
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


#: What the services, Celery and Flower do in Redis: any key and channel, and of the commands those that work on them. No
#: settings, no orders of another server's, no emptying, no modules.
REDIS_RIGHTS = (
    "~* &* -@all +@connection +@read +@write +@transaction +@pubsub -@admin -@dangerous "
    "+info +time +eval +evalsha +script|load +script|exists"
)


def main(root: Path = ROOT) -> None:
    """Write what is missing or given, then what follows from it."""
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
