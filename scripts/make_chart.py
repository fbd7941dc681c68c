"""Write the chart's schema and README tables from its values.yaml; `--check` only says which are not current."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from chart import schema, tables, values
from generated import write_or_check

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
    return write_or_check(made, target="chart")


if __name__ == "__main__":
    sys.exit(main())
