"""exchangelib, a client that we did not write, at work against the simulator. Called by exchangelib.rs.

Usage: exchangelib_client.py URL USER PASSWORD PUSH_URL OK_REPLY; the CA comes by REQUESTS_CA_BUNDLE. Prints one line for each thing that
worked; ends with a traceback at the first that does not.
"""

import datetime
import http.server
import queue
import sys
import threading
from urllib.parse import urlsplit
import urllib.error
import urllib.request
from xml.etree import ElementTree

from exchangelib import (
    BASIC,
    DELEGATE,
    Account,
    CalendarItem,
    Configuration,
    Credentials,
    FailFast,
    Folder,
    Message,
    UTC,
)
from exchangelib.autodiscover.protocol import AutodiscoverProtocol
from exchangelib.errors import (
    ErrorInvalidIdMalformed,
    ErrorInvalidSubscription,
    ErrorInvalidSyncStateData,
    ErrorItemNotFound,
    ErrorSubscriptionNotFound,
    UnauthorizedError,
)
from exchangelib.folders import FolderCollection
from exchangelib.items import ID_ONLY
from exchangelib.properties import (
    CopiedEvent,
    CreatedEvent,
    DeletedEvent,
    FreeBusyChangedEvent,
    ModifiedEvent,
    MovedEvent,
    NewMailEvent,
    StatusEvent,
)
from exchangelib.services import GetUserSettings, SendNotification
from exchangelib.version import EXCHANGE_2016, Version

URL, USER, PASSWORD, PUSH_URL, OK_REPLY = sys.argv[1:6]
ALL = {CopiedEvent, CreatedEvent, DeletedEvent, FreeBusyChangedEvent, ModifiedEvent, MovedEvent, NewMailEvent}


def sign_in(password):
    config = Configuration(
        service_endpoint=URL,
        credentials=Credentials(USER, password),
        auth_type=BASIC,
        version=Version(build=EXCHANGE_2016),
        retry_policy=FailFast(),
        # One hangs in the stream while the other works.
        max_connections=2,
    )
    return Account(primary_smtp_address=USER, config=config, autodiscover=False, access_type=DELEGATE)


def say(what):
    print(what, flush=True)


def expect(error, what, do):
    try:
        do()
    except error as e:
        say(f"refused: {what}: {type(e).__name__}")
    else:
        raise AssertionError(f"{what} was not refused")


def operate(account, made):
    """One of everything that has an event of its own."""
    item = Message(account=account, folder=account.inbox, subject="Grüße & <mehr>", body="eins", is_read=False)
    item.save()
    made["created"] = item.id
    item.subject = "Anders"
    item.save(update_fields=["subject"])
    made["copied"] = item.copy(to_folder=account.drafts)[0]
    item.move(to_folder=account.drafts)
    made["moved"] = item.id
    gone = Message(account=account, folder=account.inbox, subject="gone").save()
    made["deleted"] = gone.id
    gone.delete()
    Message(account=account, subject="an mich", body="zwei", to_recipients=[USER]).send()
    start = datetime.datetime(2030, 1, 1, 12, tzinfo=UTC)
    CalendarItem(
        account=account, folder=account.calendar, subject="Mittag", start=start, end=start + datetime.timedelta(hours=1)
    ).save()


def read(account, subscription_id):
    seen, kinds = [], set()
    for notification in account.inbox.get_streaming_events(subscription_id, connection_timeout=1):
        assert notification.subscription_id == subscription_id
        seen.extend(notification.events)
        kinds.update(type(e) for e in notification.events)
        if kinds >= ALL:
            break
    return seen


def of_kind(events, kind):
    return [e for e in events if type(e) is kind]


account = sign_in(PASSWORD)
folders = FolderCollection(account=account, folders=[account.inbox, account.calendar])
say(f"folders: {account.inbox.name}, {account.calendar.name}")

# The states before, for the sync below.
account.inbox.item_sync_state = account.root.folder_sync_state = None
assert list(account.inbox.sync_items()) == []
list(account.root.sync_hierarchy())

subscription_id = folders.subscribe_to_streaming()
made = {}
worker = threading.Thread(target=operate, args=(account, made))
worker.start()
events = read(account, subscription_id)
worker.join()
for kind in sorted(ALL, key=lambda k: k.__name__):
    assert of_kind(events, kind), kind
    say(f"event: {kind.__name__}")
moved = [e for e in of_kind(events, MovedEvent) if e.old_item_id.id == made["created"]]
assert moved and moved[0].item_id.id == made["moved"], "the move names both ids"
assert [e.item_id.id for e in of_kind(events, CopiedEvent)] == [made["copied"]]
assert made["deleted"] in [e.item_id.id for e in of_kind(events, DeletedEvent)]
new = of_kind(events, NewMailEvent)[0].item_id

item = account.inbox.get(id=new.id, changekey=new.changekey)
assert (item.subject, item.sender.email_address) == ("an mich", USER), item
assert b"an mich" in item.mime_content
say("item: by the id of its event")
found = list(account.inbox.filter(subject="an mich").only("subject"))
assert [i.id for i in found] == [item.id], found
say("item: by its subject")

changes = list(account.inbox.sync_items(only_fields=["subject"]))
assert [(kind, getattr(i, "subject", None)) for kind, i in changes] == [("create", "an mich")], changes
item.is_read = not item.is_read
item.save(update_fields=["is_read"])
changes = list(account.inbox.sync_items(only_fields=["subject"]))
assert [kind for kind, _ in changes] == ["read_flag_change"], changes
item.soft_delete()
changes = list(account.inbox.sync_items(only_fields=["subject"]))
assert [kind for kind, _ in changes] == ["delete"], changes
say("sync: create, read_flag_change, delete")
child = Folder(parent=account.inbox, name="Rechnungen")
child.save()
changes = list(account.root.sync_hierarchy())
assert ("create", "Rechnungen") in [(kind, getattr(f, "name", None)) for kind, f in changes], changes
child.delete()
changes = list(account.root.sync_hierarchy())
assert "delete" in [kind for kind, _ in changes], changes
say("sync: folders")

account.inbox.unsubscribe(subscription_id)
say("unsubscribed")
expect(ErrorSubscriptionNotFound, "a given back id", lambda: account.inbox.unsubscribe(subscription_id))
expect(
    (ErrorSubscriptionNotFound, ErrorInvalidSubscription),
    "a stream of a given back id",
    lambda: list(account.inbox.get_streaming_events(subscription_id, connection_timeout=1)),
)
expect(
    ErrorInvalidSubscription,
    "a stream of a bad id",
    lambda: list(account.inbox.get_streaming_events("AAAA", connection_timeout=1)),
)

pull_id, watermark = account.inbox.subscribe_to_pull()
Message(account=account, folder=account.inbox, subject="pull").save()
pulled = [e for n in account.inbox.get_events(pull_id, watermark) for e in n.events]
assert [type(e) for e in pulled] == [CreatedEvent, ModifiedEvent], pulled
empty = [e for n in account.inbox.get_events(pull_id, pulled[-1].watermark) for e in n.events]
assert [type(e) for e in empty] == [StatusEvent], empty
account.inbox.unsubscribe(pull_id)
say("pull: events by watermark, then a status")



class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers as exchangelib's documentation has it."""

    came = queue.Queue()
    ended = queue.Queue()
    end = False

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parser = SendNotification(protocol=None)
        notifications = list(parser.parse(body))
        reply = parser.unsubscribe_payload() if Receiver.end else parser.ok_payload()
        self.send_response(200)
        self.send_header("Content-Type", "text/xml; charset=utf-8")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)
        if Receiver.end:
            Receiver.ended.put(True)
        for notification in notifications:
            Receiver.came.put((notification, body))

    def log_message(self, *_):
        pass


def shape(xml):
    """An element with its text and children, whatever its prefixes."""
    return (xml.tag, (xml.text or "").strip(), [shape(child) for child in xml])


receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()
push_id, watermark = account.inbox.subscribe_to_push(
    callback_url=f"http://127.0.0.1:{receiver.server_port}/hook", status_frequency=1
)
first, _ = Receiver.came.get(timeout=60)
assert (first.subscription_id, first.previous_watermark) == (push_id, watermark), first
assert [type(e) for e in first.events] == [StatusEvent], first
Message(account=account, folder=account.inbox, subject="push").save()
kinds, previous = [], first.events[-1].watermark
while len(kinds) < 2:
    notification, body = Receiver.came.get(timeout=60)
    assert notification.previous_watermark == previous, notification
    previous = notification.events[-1].watermark
    kinds += [type(e) for e in notification.events]
assert kinds == [CreatedEvent, ModifiedEvent], kinds
say("push: a status, then events that go on from it")
Receiver.end = True
Message(account=account, folder=account.inbox, subject="the last").save()
Receiver.ended.get(timeout=60)
receiver.shutdown()
say("push: unsubscribed by the answer")

# What our own receiver answers is what exchangelib would.
request = urllib.request.Request(PUSH_URL, data=body, headers={"Content-Type": "text/xml; charset=utf-8"})
with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as reply:
    assert reply.headers["Content-Type"] == "text/xml; charset=utf-8"
    ours = reply.read()
theirs = SendNotification(protocol=None)
assert shape(ElementTree.fromstring(ours)) == shape(ElementTree.fromstring(theirs.unsubscribe_payload())), ours
assert shape(ElementTree.fromstring(OK_REPLY)) == shape(ElementTree.fromstring(theirs.ok_payload())), OK_REPLY
say("push: our receiver's replies")

mails = [Message(account=account, folder=account.inbox, subject=f"page {n}").save() for n in range(5)]
changes = list(account.inbox.sync_items(only_fields=["subject"], max_changes_returned=2))
assert sorted(i.subject for kind, i in changes if kind == "create")[:5] == [f"page {n}" for n in range(5)], changes
mails[0].is_read = not mails[0].is_read
mails[0].save(update_fields=["is_read"])
mails[1].move(to_folder=account.drafts)
mails[2].delete()
mails[3].move_to_trash()
changes = sorted(kind for kind, _ in account.inbox.sync_items(only_fields=["subject"]))
assert changes == ["delete", "delete", "delete", "read_flag_change"], changes
child = Folder(parent=account.inbox, name="Ablage")
child.save()
child.move(to_folder=account.drafts)
changes = [(kind, getattr(f, "name", None)) for kind, f in account.root.sync_hierarchy()]
assert ("create", "Ablage") in changes, changes
account.inbox.item_sync_state = "AAAA"
expect(ErrorInvalidSyncStateData, "a bad sync state", lambda: list(account.inbox.sync_items()))
say("sync: pages, moves, deletions, a moved folder, a bad state")

fetched = list(account.fetch(ids=[("AAAA", None), (made["created"], None)], only_fields=["subject"]))
assert [type(f) for f in fetched] == [ErrorInvalidIdMalformed, ErrorItemNotFound], fetched
say("refused: a bad and a dead item id")
expect(UnauthorizedError, "a wrong password", lambda: sign_in("not the password").inbox.refresh())

# Its Autodiscover, where it has to be told the server: it asks DNS for the rest.
origin = "https://" + urlsplit(URL).netloc
protocol = AutodiscoverProtocol(
    config=Configuration(
        service_endpoint=f"{origin}/autodiscover/autodiscover.svc",
        credentials=Credentials(USER, PASSWORD),
        auth_type=BASIC,
        version=Version(build=EXCHANGE_2016),
        retry_policy=FailFast(),
    )
)
found = protocol.get_user_settings(user=USER)
found.raise_errors()
assert (found.ews_url, found.autodiscover_smtp_address) == (URL, USER), found
assert found.user_settings["grouping_information"] == "EX1", found.user_settings
say(f"autodiscover: {found.version.api_version}")
for address, redirect in [("moved@example.test", "redirect_address"), ("elsewhere@example.test", "redirect_url")]:
    to = getattr(protocol.get_user_settings(user=address), redirect)
    say(f"autodiscover: {redirect} {to}")
assert protocol.get_user_settings(user="nobody@example.test").error_code == "InvalidUser"
say("autodiscover: nobody is not known")
several = [USER, "nobody@example.test", "moved@example.test"]
answers = list(GetUserSettings(protocol=protocol).call(users=several, settings=["external_ews_url"]))
assert answers[0].ews_url == URL, answers
assert [(a.error_code, a.redirect_address) for a in answers] == [
    (None, None),
    ("InvalidUser", None),
    (None, "ada@mail.example.test"),
], answers
say("autodiscover: each of several gets its own answer")
say("all done")
