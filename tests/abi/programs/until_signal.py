"""Waits for a minute; Ctrl-C and SIGTERM end it at once."""
import signal, sys

import ewsnotify


def stop(*_):
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, stop)
client = ewsnotify.Client()
print('{"type": "waiting"}', flush=True)
try:
    client.next(60)
except KeyboardInterrupt:
    sys.exit(7)
