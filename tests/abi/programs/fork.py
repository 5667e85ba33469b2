"""A client and a fork: the child is refused, may free, and may open one of its own; the parent goes on."""
import json, os, sys, threading

import ewsnotify

options = json.loads(sys.argv[1])
client = ewsnotify.Client(**options)
client.watch()
while client.next()["type"] != "Connected":
    pass
# A thread that waits holds what it holds when we fork.
threading.Thread(target=lambda: print(json.dumps(client.next(60)), flush=True), daemon=True).start()
for round in range(10):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for call in (lambda: client.next(0), client.watch, client.status, client.close, client.fileno):
                try:
                    call()
                except ewsnotify.EwsError as e:
                    if "forked" not in str(e):
                        raise
                else:
                    raise SystemExit("a call in the child was not refused")
            client.wake()
            client.free()
            own = ewsnotify.Client(**options)
            own.watch()
            while own.next(30)["type"] != "Connected":
                pass
            own.close()
            own.free()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit("the child failed")
print(json.dumps({"type": "ready"}), flush=True)
for event in client:
    print(json.dumps(event), flush=True)
    if event["type"] == "NewMail":
        break
client.close()
