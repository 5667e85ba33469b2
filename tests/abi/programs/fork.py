"""A client and a fork: the child is refused, may free, and may open one of its own; the parent goes on."""
import json, os, sys, threading

import ewsnotify

options = json.loads(sys.argv[1])
kept = dict(options, state_dir=sys.argv[2])
client = ewsnotify.Client(**kept)
client.watch()
while client.next()["type"] != "Connected":
    pass
# Threads that wait, and that take and give back locks, hold what they hold when we fork.
def wait():
    for event in client:
        print(json.dumps(event), flush=True)
        if event["type"] == "NewMail":
            break


waiter = threading.Thread(target=wait)
waiter.start()
busy = True


def ask():
    while busy:
        client.status()
        ewsnotify.Client().free()


askers = [threading.Thread(target=ask) for _ in range(3)]
for asker in askers:
    asker.start()
for round in range(20):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for call in (lambda: client.next(0), client.watch, client.status, client.close, client.fileno, client.parked):
                try:
                    call()
                except ewsnotify.EwsError as e:
                    if "forked" not in str(e):
                        raise
                else:
                    raise SystemExit("a call in the child was not refused")
            client.wake()
            # The parent has the directory.
            try:
                ewsnotify.Client(**kept)
            except ewsnotify.EwsLocked:
                pass
            else:
                raise SystemExit("the parent's directory was given to the child")
            if round % 2:
                client.free()
            own = ewsnotify.Client(**options)
            own.watch()
            while own.next(30)["type"] != "Connected":
                pass
            own.close()
            own.free()
            code = 0
        except BaseException as e:
            print(repr(e), file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit("the child failed")
busy = False
for asker in askers:
    asker.join()
print(json.dumps({"type": "ready"}), flush=True)
waiter.join()
client.close()
