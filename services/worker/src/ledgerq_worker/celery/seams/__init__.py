"""All code that uses what Celery, kombu and billiard do not document, so that a new release of theirs fails one
contract test.

Nobody else imports it (``make lint`` holds that): ``celery.app.trace``, ``celery.backends``, ``celery.worker``,
``celery.concurrency``, ``celery._state``, ``kombu.transport`` and ``billiard``.
"""
