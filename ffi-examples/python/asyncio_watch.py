#!/usr/bin/env python3
"""The same in an event loop: the client's descriptor wakes it.

    asyncio_watch.py OPTIONS-AS-JSON
"""

import asyncio
import json
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
        async for event in events(client):
            print(json.dumps(event), flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
