#!/usr/bin/env python3
"""The same in an event loop: the client's descriptor wakes it.

    asyncio_watch.py OPTIONS-AS-JSON

Ctrl-C and SIGTERM end it.
"""

import asyncio
import json
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


async def main() -> None:
    with ewsnotify.Client(**json.loads(sys.argv[1])) as client:
        client.watch()
        for number in (signal.SIGINT, signal.SIGTERM):
            # Its last events follow.
            asyncio.get_running_loop().add_signal_handler(number, client.close)
        async for event in events(client):
            print(json.dumps(event), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
