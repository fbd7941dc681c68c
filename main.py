# -*- coding: utf-8 -*-
"""LedgerQ's launcher (``python main.py --help``): starts services, and servers where none are configured."""

import os
import sys

#: The launcher's catalogue needs what may not be installed here.
IS_CHINESE = os.environ.get("LEDGERQ_LOCALE", "").strip().lower()[:2] == "zh"

if sys.version_info < (3, 11):  # this file must parse on the Pythons that it refuses
    if IS_CHINESE:
        text = "LedgerQ 需要 Python 3.11 或更新的版本；这是 Python %d.%d。\n"
    else:
        text = "LedgerQ needs Python 3.11 or newer; this is Python %d.%d.\n"
    sys.stderr.write(text % sys.version_info[:2])
    sys.exit(1)


def main():  # type: () -> None
    """Run the launcher; exits with its code."""
    # The folder of this file comes last, so that a file `email.py` beside it hides nothing.
    sys.path.append(sys.path.pop(0))
    try:
        from launcher.main import run
    except ModuleNotFoundError as error:
        if IS_CHINESE:
            text = (
                "此 Python 中没有安装 LedgerQ（缺少模块 %r）：请运行 `pip install -r requirements.txt`，"
                "或 `make run`，它会建立自己的环境。\n"
            )
        else:
            text = (
                "LedgerQ is not installed in this Python (no module %r): run `pip install -r requirements.txt`, "
                "or `make run`, which makes its own environment.\n"
            )
        sys.stderr.write(text % error.name)
        sys.exit(1)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
