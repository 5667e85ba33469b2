#!/usr/bin/env python3
"""Prints what happens in a mailbox, a JSON line each.

    EWSNOTIFY_OPTIONS='{"url": "mail.example.com", "user": "ada@example.com", "password": "..."}' python3 watch.py [next | dispatch]

With "fetch": "mime" and "spool_dir": "mails" among the options, each message is in a file there, which the line names in mime_path;
with "state_dir", a restart goes on where this run stood. It ends with 0 by Ctrl-C or SIGTERM, with 2 without options, with 4 when the
sign-in is refused, and else with 1.
"""

import json
import os
import signal
import sys

import ewsnotify

RETRY = 60


def main() -> int:
    if "EWSNOTIFY_OPTIONS" not in os.environ:
        print("EWSNOTIFY_OPTIONS is not set: it has the options, as JSON", file=sys.stderr)
        return 2
    options = json.loads(os.environ["EWSNOTIFY_OPTIONS"])
    way = sys.argv[1] if len(sys.argv) > 1 else "next"
    given_up = 0

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    with ewsnotify.Client(**options) as client:

        def handle(event: dict) -> None:
            nonlocal given_up
            print(json.dumps(event), flush=True)
            if event.get("content") == "unavailable":
                # The server or the disk is in trouble: told again later, and its message is asked for anew.
                client.retry(event, RETRY)
            elif "item_id" in event:
                client.ack(event)
            if event["type"] == "Closed" and "watch" in event and event.get("reason") != "closed-by-host":
                # The only watch was given up; an Error before it said why. Nothing more would come.
                given_up = 4 if event.get("reason") == "sign-in-refused" else 1
                client.close()

        # An event counts as dealt with when `handle` says so.
        client.watch(ack="manual")
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
    return given_up


if __name__ == "__main__":
    sys.exit(main())
