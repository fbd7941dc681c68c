from __future__ import annotations

import pytest

from launcher.errors import UsageError
from launcher.options import parse


@pytest.mark.parametrize(
    ("flags", "api", "worker", "monitor"),
    [
        ("", True, True, False),
        ("--run-api --run-worker", True, True, False),
        ("--run-api", True, True, False),
        ("--no-worker", True, False, False),
        ("--no-api", False, True, False),
        ("--run-monitor", True, True, True),
        ("--run-monitor --no-monitor", True, True, False),
        ("--no-api --run-api", True, True, False),
        ("--run-worker --no-worker", True, False, False),
    ],
)
def test_flags_choose_processes_and_the_last_of_a_pair_wins(flags, api, worker, monitor):
    options = parse(flags.split())
    assert (options.api, options.worker, options.monitor) == (api, worker, monitor)


def test_values_are_read_and_the_environment_decides_where_none_is_given():
    options = parse(
        [
            "--api-port",
            "9000",
            "--worker-concurrency",
            "4",
            "--worker-loglevel",
            "INFO",
            "--debug",
            "--api-reload",
            "--worker-reload",
        ]
    )
    assert (options.api_port, options.worker_concurrency, options.worker_loglevel) == (9000, 4, "info")
    assert (options.debug, options.api_reload, options.worker_reload) == (True, True, True)
    options = parse([])
    assert (options.api_port, options.worker_concurrency, options.worker_loglevel) == (None, None, None)


@pytest.mark.parametrize(
    "flags",
    [
        "--no-api --no-worker", "--api-port", "--api-port -1", "--api-port 0", "--api-port 65536",
        "--worker-concurrency x", "--worker-concurrency 0", "--worker-loglevel x", "--deb", "api",
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_a_usage_error_of_one_line(flags):
    with pytest.raises(UsageError) as error:
        parse(flags.split())
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
