"""Waits for a minute; Ctrl-C and SIGTERM end it at once."""
import signal, sys

import ewsnotify


def stop(*_):
    raise KeyboardInterrupt


# Also where the shell has it ignored, as for what runs in the background.
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)
client = ewsnotify.Client()
print('{"type": "waiting"}', flush=True)
try:
    client.next(60)
except KeyboardInterrupt:
    sys.exit(7)
