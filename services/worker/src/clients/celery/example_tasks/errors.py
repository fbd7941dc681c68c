"""Why an example task can fail.

    ExampleTaskError
    ├── InvalidOptions
    ├── DocumentError
    │   ├── InvalidDocumentId
    │   ├── DocumentNotFound
    │   ├── DocumentTooLarge
    │   ├── UnsupportedDocument
    │   ├── BrokenDocument
    │   └── EncryptedDocument
    ├── FetchError
    │   ├── ForbiddenUrl
    │   ├── FetchFailed
    │   └── ResponseTooLarge
    └── TransientFailure

Each takes one message that says what was wrong, where, and what to do about it. The single argument keeps
them picklable, which Celery's prefork pool needs.
"""


class ExampleTaskError(Exception):
    """An example task could not do what it was asked."""


class InvalidOptions(ExampleTaskError):
    """A parameter has a value that the task does not know."""


class DocumentError(ExampleTaskError):
    """A document cannot be processed."""


class InvalidDocumentId(DocumentError):
    """The id is not the plain name of a file in the documents folder."""


class DocumentNotFound(DocumentError):
    """No file in the documents folder has this id."""


class DocumentTooLarge(DocumentError):
    """The file is larger than a task may read."""


class UnsupportedDocument(DocumentError):
    """The file is there, but not of a kind that this task can work on."""


class BrokenDocument(DocumentError):
    """The file's content is damaged."""


class EncryptedDocument(DocumentError):
    """The file opens only with a password."""


class FetchError(ExampleTaskError):
    """A URL could not be fetched."""


class ForbiddenUrl(FetchError):
    """The URL is not one that a worker may open."""


class FetchFailed(FetchError):
    """The server did not answer properly or in time."""


class ResponseTooLarge(FetchError):
    """The answer is longer than was allowed."""


class TransientFailure(ExampleTaskError):
    """A failure that goes away when the task is tried again."""
