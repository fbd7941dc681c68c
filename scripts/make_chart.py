"""Write the chart's schema and README tables from its values.yaml; `--check` only says which are not current."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from chart import schema, tables, values

CHART = Path(__file__).parent.parent / "deploy" / "helm" / "ledgerq"


def main() -> int:
    """Write the files, or compare them."""
    keys = values.read((CHART / "values.yaml").read_text("utf-8"))
    moved = yaml.safe_load((CHART / "files" / "moved-keys.yaml").read_text("utf-8"))
    page = CHART / "README.md"
    made = {
        CHART / "values.schema.json": schema.schema(keys, moved),
        page: tables.readme(page.read_text("utf-8"), keys),
    }
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text]
        if stale:
            sys.stderr.write(f"not current in deploy/helm/ledgerq: {', '.join(stale)}; run `make chart`\n")
        return bool(stale)
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
