#!/usr/bin/env python3
"""Prints what happens in a mailbox, a JSON line each, and saves each new message.

    watch.py OPTIONS-AS-JSON [FOLDER-FOR-MESSAGES]

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

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    manual = options.get("ack") == "manual"
    with ewsnotify.Client(**options) as client:
        client.watch()
        try:
            for event in client:
                if folder and event["type"] == "NewMail":
                    path = os.path.join(folder, f"{event['seq']}.eml")
                    client.save_mime(event["watch"], event["item_id"], path, event.get("change_key"))
                print(json.dumps(event), flush=True)
                if manual and "item_id" in event:
                    client.ack(event)
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
