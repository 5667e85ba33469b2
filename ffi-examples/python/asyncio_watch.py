#!/usr/bin/env python3
"""The same in an event loop: the client's descriptor wakes it.

    EWSNOTIFY_OPTIONS='{"url": "mail.example.com", "user": "ada@example.com", "password": "..."}' python3 asyncio_watch.py

It ends with 0 by Ctrl-C or SIGTERM, with 4 when the sign-in is refused, and else with 1.
"""

import asyncio
import json
import os
import signal
import sys

import ewsnotify


async def events(client: ewsnotify.Client):
    """The client's events, without a thread."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(client.fileno(), ready.set)
    try:
        while True:
            await ready.wait()
            ready.clear()
            while (event := client.next(0)) is not None:
                yield event
    except StopIteration:
        return
    finally:
        loop.remove_reader(client.fileno())


async def main() -> int:
    given_up = 0
    with ewsnotify.Client(**json.loads(os.environ["EWSNOTIFY_OPTIONS"])) as client:
        client.watch()
        for number in (signal.SIGINT, signal.SIGTERM):
            # Its last events follow.
            asyncio.get_running_loop().add_signal_handler(number, client.close)
        async for event in events(client):
            print(json.dumps(event), flush=True)
            if event["type"] == "Closed" and "watch" in event and event.get("reason") != "closed-by-host":
                # The only watch was given up; an Error before it said why. Nothing more would come.
                given_up = 4 if event.get("reason") == "sign-in-refused" else 1
                client.close()
    return given_up


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
