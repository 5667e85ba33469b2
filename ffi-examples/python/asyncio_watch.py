#!/usr/bin/env python3
"""The same in an event loop: the client's descriptor wakes it.

    EWSNOTIFY_OPTIONS='{"url": "mail.example.com", "user": "ada@example.com", "password": "..."}' python3 asyncio_watch.py

It ends with 0 by Ctrl-C or SIGTERM, with 2 without options, with 4 when the sign-in is refused, and else with 1.
"""

import asyncio
import json
import os
import signal
import sys

import ewsnotify

RETRY = 60


async def events(client: ewsnotify.Client):
    """The client's events, without a thread."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    fd = client.fileno()
    loop.add_reader(fd, ready.set)
    try:
        while True:
            await ready.wait()
            ready.clear()
            while (event := client.next(0)) is not None:
                yield event
    except StopIteration:
        return
    finally:
        loop.remove_reader(fd)


async def main() -> int:
    if "EWSNOTIFY_OPTIONS" not in os.environ:
        print("EWSNOTIFY_OPTIONS is not set: it has the options, as JSON", file=sys.stderr)
        return 2
    given_up = 0
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asyncio.current_task().cancel)
    with ewsnotify.Client(**json.loads(os.environ["EWSNOTIFY_OPTIONS"])) as client:
        # An event counts as dealt with when it is acknowledged.
        client.watch(ack="manual")
        try:
            async for event in events(client):
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
        except asyncio.CancelledError:
            pass
    return given_up


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
