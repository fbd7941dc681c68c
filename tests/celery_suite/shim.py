# Added to the conftest.py of Celery's integration tests: the worker is a process of its own, and is not started here.
import threading as _threading
from types import SimpleNamespace as _Namespace


class _Elsewhere:
    hostname = os.environ["SUITE_NODE"]


@pytest.fixture(scope="session")
def celery_session_worker(celery_session_app, celery_includes, celery_class_tasks):
    for module in celery_includes:
        celery_session_app.loader.import_task_module(module)
    for class_task in celery_class_tasks:
        celery_session_app.register_task(class_task)
    yield _Elsewhere()


def pytest_collection_modifyitems(items):
    for item in items:
        for node in item.listchain():
            node.own_markers[:] = [mark for mark in node.own_markers if mark.name not in ("flaky", "timeout")]
        item.add_marker(pytest.mark.timeout(int(os.environ["SUITE_TEST_SECONDS"])))
        if hasattr(item.module, "NODENAME"):
            item.module.NODENAME = os.environ["SUITE_NODE"]


@pytest.fixture(scope="session", autouse=True)
def _relay():
    """`task_received` and `successful_requests` of the worker's process, seen in this one."""
    from celery.signals import task_received
    from celery.worker import state as worker_state

    connection = get_redis_connection()
    connection.delete("suite:relay")
    over = _threading.Event()

    def listen():
        while not over.is_set():
            got = connection.blpop("suite:relay", 1)
            if not got:
                continue
            kind, task_id, nesting = json.loads(got[1])
            if kind == "received":
                task_received.send(sender=None, request=_Namespace(id=task_id, replaced_task_nesting=nesting))
            else:
                _threading.Timer(0.5, worker_state.successful_requests.add, [task_id]).start()

    thread = _threading.Thread(target=listen, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join(3)
