"""What the wrapper offers beside the loop of watch.py. Says "mail" where it wants one delivered."""
import json, os, signal, sys, threading, time

import ewsnotify

# Also where the shell has it ignored, as for what runs in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
options = json.loads(sys.argv[1])
folder = sys.argv[2]


def want():
    print(json.dumps({"type": "mail"}), flush=True)


def begin(**more):
    """A client to which what came so far is old: dates are of whole seconds."""
    time.sleep(1.1)
    return ewsnotify.Client(**options, **more)


def until(client, kind):
    while (event := client.next(60))["type"] != kind:
        pass
    return event


assert ewsnotify.version().count(".") == 2
assert {"url", "log", "dispatch"} <= {o["name"] for o in ewsnotify.options()}
for wrong in ({"nonsense": 1}, {"mode": "sideways"}):
    try:
        ewsnotify.Client(**wrong)
    except ewsnotify.EwsError as e:
        assert e.status == -1 and next(iter(wrong)) in str(e), e
    else:
        raise SystemExit("a wrong option was taken")

try:
    ewsnotify.Client(dispatch="thread")
except ValueError:
    pass
else:
    raise SystemExit("a thread may call Python")

# Acknowledged by hand: given again, parked, released; an item and its message by id and change key.
with ewsnotify.Client(**options, ack="manual", events="NewMail", state_dir=folder + "/state") as client:
    watch = client.watch()
    until(client, "Connected")
    want()
    mail = until(client, "NewMail")
    item = client.get_item(watch, mail["item_id"], mail["change_key"])
    assert item["subject"].startswith("Mail ") and item["from"] == "Bob <bob@example.test>", item
    assert client.get_item(0, mail["item_id"])["message_id"] == item["message_id"]
    path = folder + "/mail.eml"
    client.save_mime(watch, mail["item_id"], path, mail["change_key"])
    assert os.stat(path).st_mode & 0o777 == 0o600
    try:
        client.save_mime(watch, "nobody", folder + "/none.eml")
    except ewsnotify.EwsError as e:
        assert e.code and e.code.startswith("Error"), (e, e.code)
    attachment = next((a["id"] for a in item.get("attachments", [])), None)
    assert attachment is not None, item
    path = folder + "/attachment"
    client.save_attachment(watch, attachment, path)
    assert os.stat(path).st_mode & 0o777 == 0o600 and open(path, "rb").read() == b"1;2;3"
    client.trace_wire(folder + "/wire.log")
    client.get_item(watch, mail["item_id"])
    client.trace_wire(None)
    wire = open(folder + "/wire.log").read()
    assert " > POST " in wire and "Authorization: Basic ***" in wire and " < HTTP/1.1 200 OK" in wire, wire
    client.retry(mail, 0.001)
    again = until(client, "NewMail")
    assert again["item_id"] == mail["item_id"] and again["attempt"] == 2, again
    client.park(again)
    parked = client.parked()
    assert parked[0]["event"]["item_id"] == mail["item_id"], parked
    client.release(parked[0])
    last = until(client, "NewMail")
    assert last["item_id"] == mail["item_id"]
    client.ack(last)
    assert client.status()["watches"], client.status()
    client.unwatch(watch)
    assert until(client, "Closed")["watch"] == watch
    second = client.watch()
    until(client, "Connected")
    assert second != watch

    # Ends a wait, after what is there.
    client.wake()
    while client.next(float("inf")) is not None:
        pass

# A callback: what it raises comes out, and what is closed ends the loop.
with begin(events="NewMail", log="debug") as client:
    told = []

    def tell(event):
        told.append(event)
        if event["type"] == "NewMail":
            raise LookupError(event["item_id"])

    try:
        client.dispatch(0)
        raise SystemExit("nothing is registered")
    except RuntimeError:
        pass
    client.on_event(tell)
    client.watch()
    while not any(e["type"] == "Connected" for e in told):
        client.dispatch(60)
    want()
    try:
        while client.dispatch(60) is not None:
            pass
    except LookupError as e:
        assert told[-1]["item_id"] == str(e.args[0])
    assert client.dispatch(0) is not None
    client.close()
    while client.dispatch(0) is not None:
        pass
    assert told[-1]["type"] == "Closed" and "watch" not in told[-1]
    # The log came as events.
    lines = [e for e in told if e["type"] == "Log"]
    assert {"info", "debug"} <= {e["level"] for e in lines} and all(e["message"] for e in lines), lines
    assert any("Subscribe" in e["message"] for e in lines), lines
    assert options["password"] not in json.dumps(told)

# Ctrl-C within a callback.
with ewsnotify.Client(**options) as client:
    client.on_event(lambda event: os.kill(os.getpid(), signal.SIGINT))
    client.watch()
    try:
        while client.dispatch(60) is not None:
            pass
        raise SystemExit("Ctrl-C was lost")
    except KeyboardInterrupt:
        pass

# The host keeps the state.
state, ids = {}, []
for round in range(2):
    with begin(state=state, events="NewMail") as client:
        client.watch()
        for event in client:
            if event["type"] == "StateChanged":
                if "value" in event:
                    state[event["key"]] = event["value"]
                else:
                    del state[event["key"]]
                client.ack(event)
            elif event["type"] == "Drained":
                want()
            elif event["type"] == "NewMail":
                ids.append(event["item_id"])
                threading.Thread(target=client.close).start()
assert len(set(ids)) == 2 and len(ids) == 2 and state, ids

# A bounded run ends by itself.
with ewsnotify.Client(**options, drain_seconds=1) as client:
    client.watch()
    events = list(client)
    assert events[-1]["type"] == "Closed" and any(e["type"] == "Connected" for e in events), events
with ewsnotify.Client(**options, drain_seconds=1) as client:
    client.watch()
    # For an event loop it is the descriptor that says so.
    import select

    while select.select([client.fileno()], [], [], 60)[0]:
        try:
            while client.next(0):
                pass
        except StopIteration:
            break
    else:
        raise SystemExit("the descriptor does not tell of the end")

# What a server sends by itself, with and without a client.
PUSH = b"""<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><SendNotification
    xmlns="http://schemas.microsoft.com/exchange/services/2006/messages"><ResponseMessages><SendNotificationResponseMessage
    ResponseClass="Success"><Notification><SubscriptionId>HwBz=</SubscriptionId><NewMailEvent><ItemId Id="AAMk"/></NewMailEvent>
    </Notification></SendNotificationResponseMessage></ResponseMessages></SendNotification></s:Body></s:Envelope>"""
push = ewsnotify.push_parse(PUSH)
assert push["messages"][0]["events"][0]["item_id"] == "AAMk" and ">OK<" in push["reply"], push
with ewsnotify.Client(**options) as client:
    fed = client.push_feed(PUSH)
    assert (fed["http_status"], fed["messages"][0]["outcome"]) == (200, "unknown") and ">Unsubscribe<" in fed["reply"], fed
    try:
        client.push_feed(b"<html/>")
    except ewsnotify.EwsError as e:
        assert e.status == -8, e
    else:
        raise SystemExit("a page was taken for a notification")
print(json.dumps({"type": "fine"}), flush=True)
