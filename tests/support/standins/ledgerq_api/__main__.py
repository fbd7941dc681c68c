"""Answer 200 to everything; with ``STANDIN_API=refuse`` exit 2, as for a wrong setting."""

import http.server
import os
import signal
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    """Tells its pid, so that a test can see a restart; ``/environment`` shows what it was told."""

    def do_GET(self) -> None:
        """Answer."""
        names = sorted(name for name in os.environ if name.startswith("LEDGERQ_"))
        listing = "\n".join(f"{name}={os.environ[name]}" for name in names)
        body = listing if self.path == "/environment" else str(os.getpid())
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


if os.environ.get("STANDIN_API") == "refuse":
    print("standin: no such setting", file=sys.stderr)
    sys.exit(2)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.HTTPServer(("127.0.0.1", int(os.environ["LEDGERQ_API_PORT"])), Handler).serve_forever()
