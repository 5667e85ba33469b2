#!/usr/bin/env python3
"""Prints what happens in a mailbox, a JSON line each, and saves each new message.

    watch.py OPTIONS-AS-JSON [FOLDER-FOR-MESSAGES] [next | dispatch]

Ctrl-C and SIGTERM end it.
"""

import json
import os
import signal
import sys

import ewsnotify


def main() -> int:
    options = json.loads(sys.argv[1])
    folder = sys.argv[2] if len(sys.argv) > 2 else None
    way = sys.argv[3] if len(sys.argv) > 3 else "next"

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    manual = options.get("ack") == "manual"
    with ewsnotify.Client(**options) as client:

        def handle(event: dict) -> None:
            if folder and event["type"] == "NewMail":
                path = os.path.join(folder, f"{event['seq']}.eml")
                client.save_mime(event["watch"], event["item_id"], path, event.get("change_key"))
            print(json.dumps(event), flush=True)
            if manual and "item_id" in event:
                client.ack(event)

        client.watch()
        try:
            if way == "dispatch":
                client.on_event(handle)
                while client.dispatch() is not None:
                    pass
            else:
                for event in client:
                    handle(event)
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
