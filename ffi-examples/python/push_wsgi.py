"""Where Exchange sends notifications to (option mode=push, push_url: the address of this application), for any WSGI server.

It needs no library: it puts what came into the folder `push` of the worker's state directory ($EWSNOTIFY_STATE_DIR) and answers
at once; the worker, watch.py or any other program with the library and that `state_dir`, takes it from there.

Exchange does not sign in: put a secret behind the address, and the same into $EWSNOTIFY_PUSH_SECRET:

    https://web.example.com/push/SECRET

The worker makes the folder. Where it runs as another user than the web server:

    chgrp www-data STATE/push && chmod 2770 STATE/push && chmod 711 STATE
"""

import hmac
import os
import re
import secrets
import sys
import time

# A larger body is no notification.
MAX_BYTES = 1 << 20
# When so many wait, nobody takes them: the server is asked to try again later.
MAX_FILES = 10_000

_ANSWER = (
    '<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
    '<m:SendNotificationResult xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages">'
    "<m:SubscriptionStatus>%s</m:SubscriptionStatus></m:SendNotificationResult></s:Body></s:Envelope>"
)


def application(environ, start_response):
    """A WSGI application."""
    status, word = _take(environ)
    body = (_ANSWER % word).encode() if word else b""
    headers = [("Content-Length", str(len(body)))]
    if word:
        headers.append(("Content-Type", "text/xml; charset=utf-8"))
    start_response(status, headers)
    return [body]


def _take(environ):
    secret = os.environ.get("EWSNOTIFY_PUSH_SECRET", "")
    given = environ.get("PATH_INFO", "").rsplit("/", 1)[-1]
    if not secret or not hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode()):
        return "404 Not Found", None
    if environ["REQUEST_METHOD"] != "POST":
        return "405 Method Not Allowed", None
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return "400 Bad Request", None
    if not 0 < length <= MAX_BYTES:
        return "413 Content Too Large" if length > 0 else "411 Length Required", None
    body = environ["wsgi.input"].read(length)
    if len(body) != length or not re.search(rb"<(?:\w+:)?SendNotification[\s>]", body):
        return "400 Bad Request", None

    folder = os.path.join(os.environ["EWSNOTIFY_STATE_DIR"], "push")
    # Subscriptions that the worker does not have, or has ended.
    try:
        with open(os.path.join(folder, "unwanted"), encoding="utf-8") as file:
            unwanted = set(file.read().split("\n"))
    except OSError:
        unwanted = set()
    found = {f.decode("utf-8", "replace") for f in re.findall(rb"<(?:\w+:)?SubscriptionId\s*>\s*([^<]*?)\s*<", body)}
    if found and found <= unwanted:
        return "200 OK", "Unsubscribe"
    # Names go in the order of coming. Whole from the moment that it has its name.
    name = "%020d-%s" % (time.time_ns() // 1000, secrets.token_hex(8))
    new = os.path.join(folder, f".{name}.new")
    try:
        if len(os.listdir(folder)) >= MAX_FILES:
            raise OSError("nobody takes the notifications")
        with open(new, "xb") as file:
            file.write(body)
        os.chmod(new, 0o644)
        os.rename(new, os.path.join(folder, f"{name}.xml"))
    except OSError as e:
        print(f"{folder}: {e}; is a worker running, and may we write there?", file=sys.stderr)
        try:
            os.unlink(new)
        except OSError:
            pass
        return "503 Service Unavailable", None
    return "200 OK", "OK"


if __name__ == "__main__":
    # For trying it out: a server of the standard library's, on a port that is told.
    from wsgiref.simple_server import make_server

    with make_server("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0, application) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
