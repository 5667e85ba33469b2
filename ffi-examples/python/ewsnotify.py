"""libewsnotify from Python, by ctypes: one file, no dependency.

    import ewsnotify

    with ewsnotify.Client(url="mail.example.com", user="ada@example.com", password="...", fetch="summary") as client:
        client.watch()
        for event in client:
            if event["type"] == "NewMail":
                print(event["subject"])
            elif event["type"] == "Closed":
                break  # the watch was given up; the Error before it says why

Events are dicts, in the JSON form of the library. All calls block, release the GIL meanwhile, and end on Ctrl-C. A client belongs
to the process that made it: make a new one after a fork.

The library is $EWSNOTIFY_LIBRARY, or the one beside this file, or the one that the system has.

Instead of `next`, a callback on the thread that calls `dispatch`:

    client.on_event(lambda event: print(event["type"]))
    while client.dispatch(1.0) is not None:
        ...
"""

import ctypes
import json
import os
import time
from typing import Any, Callable, Dict, Iterator, Optional

__all__ = ["Client", "EwsError", "EwsLocked", "options", "push_parse", "sign_in_begin", "sign_in_finish", "version"]

_OK, _TIMEOUT, _CLOSED, _INTERRUPTED = 0, 1, 2, 4
_E_LOCKED = -13
_RETRY, _PARK = 1, 2
_ABI = 1
# A signal that comes just before a wait begins does not end it: the next wait sees it, after so many seconds.
_SLICE = 1.0
# Before 1.0 a minor version may break the interface.
_NAME = "libewsnotify.so.0.1"


class EwsError(Exception):
    """Something failed. `status` is the library's (`EWSN_E_...`), `code` the server's own code, if it sent one."""

    def __init__(self, status: int, text: str, code: Optional[str]):
        super().__init__(text)
        self.status = status
        self.code = code


class EwsLocked(EwsError):
    """Another process owns the state directory."""


def _load() -> ctypes.CDLL:
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), _NAME)
    path = os.environ.get("EWSNOTIFY_LIBRARY") or (beside if os.path.exists(beside) else _NAME)
    try:
        lib = ctypes.CDLL(path)
    except OSError as e:
        hint = "install it, or name it in EWSNOTIFY_LIBRARY"
        raise OSError(f"libewsnotify cannot be loaded as {path} (nor is there a {beside}): {e}; {hint}") from None
    text, client, u64 = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint64
    i32, i64 = ctypes.c_int32, ctypes.c_int64
    for name, result, *arguments in [
        ("abi_check", i32, i32),
        ("version", text),
        ("last_status", i32),
        ("last_error", text),
        ("last_error_code", text),
        ("options_describe", text),
        ("open_json", client, text),
        ("open_with_state_json", client, text, text),
        ("watch_json", u64, client, text),
        ("unwatch", i32, client, u64),
        ("next_json", text, client, i32),
        ("fd", i32, client),
        ("wake", None, client),
        ("ack", i32, client, u64),
        ("nack", i32, client, u64, i32, i64),
        ("set_token", i32, client, text, text, i64, text),
        ("parked_json", text, client),
        ("release", i32, client, u64),
        ("get_item_json", text, client, u64, text, text),
        ("save_attachment", i32, client, u64, text, text),
        ("save_mime", i32, client, u64, text, text, text),
        ("status_json", text, client),
        ("trace_wire", i32, client, text),
        ("push_parse_json", text, text),
        ("push_feed_json", text, client, text),
        ("sign_in_begin_json", text, text, text),
        ("sign_in_finish_json", text, text, text, text, i32),
        ("close", i32, client, i32),
        ("free", None, client),
    ]:
        function = getattr(lib, "ewsn_" + name)
        function.restype = result
        function.argtypes = arguments
    return lib


_lib = _load()


def _fail() -> None:
    status = _lib.ewsn_last_status()
    text = _lib.ewsn_last_error().decode()
    code = _lib.ewsn_last_error_code().decode() or None
    raise (EwsLocked if status == _E_LOCKED else EwsError)(status, text, code)


def _check(status: int) -> int:
    if status < 0:
        _fail()
    return status


def _options(options: dict) -> bytes:
    if options.get("dispatch", "host") != "host":
        raise ValueError("option dispatch: Python must not be called on a thread that outlives it")
    return json.dumps(options).encode()


def _milliseconds(seconds: Optional[float]) -> int:
    return -1 if seconds is None else int(max(0, min(seconds * 1000, 2**31 - 1)))


_check(_lib.ewsn_abi_check(_ABI))


def version() -> str:
    """The library's version."""
    return _lib.ewsn_version().decode()


def options() -> list:
    """All options: `name`, `scope`, `default`, `meaning`."""
    return json.loads(_lib.ewsn_options_describe())


def push_parse(body: bytes) -> dict:
    """Takes the body of a POST that Exchange sends by itself apart, without a client: `reply`, `unsubscribe`, `messages`."""
    text = _lib.ewsn_push_parse_json(body)
    return json.loads(text) if text is not None else _fail()


def sign_in_begin(redirect: Optional[str] = None, **options: Any) -> dict:
    """Begins the sign-in of a user by OAuth, with the options of the watch (`user`, `oauth_tenant`, `oauth_client_id`, ...).

    With a browser that comes back to `redirect`, the whole URL of a page as it is registered: `url`, where to send it, and `kept`. Without
    one, on another device: `uri`, `user_code`, `whole_uri`, `seconds`, and `kept`. `kept` is a secret, for `sign_in_finish` in this process
    or another: keep it in the user's session on the server.
    """
    text = _lib.ewsn_sign_in_begin_json(_options(options), None if redirect is None else redirect.encode())
    return json.loads(text) if text is not None else _fail()


def sign_in_finish(kept: str, query: Optional[str] = None, timeout: Optional[float] = None, **options: Any) -> dict:
    """Goes on with a sign-in, with the same options. `query` is what the browser came back with, behind the `?`.

    Without one it waits so many seconds at most (None: as long as the code is good) for the user on the other device. The user has
    signed in: `stored`, `lasting`, `expires_unix_ms`, and where nothing is set to store them in `refresh_token` and `access_token`.
    Not yet: `kept`, in the place of the one before, `retry_ms`, and `trouble` where the issuer could not be asked. Ctrl-C and other signals are seen at once.
    """
    encoded = None if query is None else query.encode()
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        left = _SLICE if end is None else max(0.0, end - time.monotonic())
        milliseconds = _milliseconds(min(left, _SLICE))
        text = _lib.ewsn_sign_in_finish_json(_options(options), kept.encode(), encoded, milliseconds)
        if text is None:
            _fail()
        told = json.loads(text)
        if "kept" not in told or left == 0:
            return told
        kept = told["kept"]


class Client:
    """One process's watches, their connections and the queue of their events.

    The options are those of the client, and the defaults of its watches; the README lists them.

    A host that keeps the state itself gives in `state` what it has, `{}` at first: each change comes as a `StateChanged` event with
    `key` and `value` (none where the key is to be removed), and is acknowledged when it is kept.
    """

    def __init__(self, state: Optional[Dict[str, str]] = None, **options: Any):
        self._handle = None
        self._callback: Optional[Callable[[dict], Any]] = None
        if state is None:
            self._handle = _lib.ewsn_open_json(_options(options))
        else:
            self._handle = _lib.ewsn_open_with_state_json(_options(options), _options(state))
        if not self._handle:
            _fail()

    def watch(self, **options: Any) -> int:
        """Begins to watch a mailbox; the number that its events carry in `watch`."""
        return _lib.ewsn_watch_json(self._handle, _options(options)) or _fail()

    def unwatch(self, watch: int) -> None:
        """Ends a watch: its `Closed` event follows."""
        _check(_lib.ewsn_unwatch(self._handle, watch))

    def next(self, timeout: Optional[float] = None) -> Optional[dict]:
        """The next event; None where none came in so many seconds, or a wait was ended by `wake`.

        Ctrl-C and other signals are seen at once: Python runs their handlers before this goes on. Raises StopIteration once the
        client is closed and every event was taken.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _SLICE if end is None else max(0.0, end - time.monotonic())
            text = _lib.ewsn_next_json(self._handle, _milliseconds(min(left, _SLICE)))
            if text is not None:
                return json.loads(text)
            status = _check(_lib.ewsn_last_status())
            if status == _CLOSED:
                raise StopIteration
            if status == _INTERRUPTED or left == 0:
                return None

    def __iter__(self) -> Iterator[dict]:
        """The events until the client is closed."""
        while True:
            try:
                event = self.next()
            except StopIteration:
                return
            if event is not None:
                yield event

    def fileno(self) -> int:
        """Readable while `next` would not wait: for select and event loops."""
        return _check(_lib.ewsn_fd(self._handle))

    def wake(self) -> None:
        """Ends one wait in `next`, from any thread."""
        _lib.ewsn_wake(self._handle)

    def ack(self, event: dict) -> None:
        """The event has been dealt with (option `ack="manual"`). Returns when that is durable."""
        _check(_lib.ewsn_ack(self._handle, event["seq"]))

    def retry(self, event: dict, seconds: float) -> None:
        """The event could not be dealt with: it is told again after so long."""
        _check(_lib.ewsn_nack(self._handle, event["seq"], _RETRY, int(min(seconds * 1000, 2**62))))

    def park(self, event: dict) -> None:
        """The event could not be dealt with: it is kept until it is released."""
        _check(_lib.ewsn_nack(self._handle, event["seq"], _PARK, 0))

    def set_token(self, account: str, token: str, expires: Optional[float] = None) -> None:
        """Gives a token for the watches with `auth="host"` and this account, as the answer to `TokenNeeded`; `expires` is when it
        ends, in seconds since 1970."""
        milliseconds = 0 if expires is None else int(expires * 1000)
        _check(_lib.ewsn_set_token(self._handle, account.encode(), token.encode(), milliseconds, None))

    def deny_token(self, account: str, why: str) -> None:
        """Says that there is no token before somebody signs in: the account's watches end."""
        _check(_lib.ewsn_set_token(self._handle, account.encode(), None, 0, why.encode()))

    def parked(self) -> list:
        """The events that are parked: `id`, `attempts`, `event`."""
        text = _lib.ewsn_parked_json(self._handle)
        return json.loads(text) if text is not None else _fail()

    def release(self, parked: dict) -> None:
        """Gives a parked event again."""
        _check(_lib.ewsn_release(self._handle, parked["id"]))

    def get_item(self, watch: int, item_id: str, change_key: Optional[str] = None) -> dict:
        """Asks for an item by its id and change key."""
        key = change_key.encode() if change_key is not None else None
        text = _lib.ewsn_get_item_json(self._handle, watch, item_id.encode(), key)
        return json.loads(text) if text is not None else _fail()

    def save_mime(self, watch: int, item_id: str, path: str, change_key: Optional[str] = None) -> None:
        """Asks for a whole message and writes it into a new file."""
        key = change_key.encode() if change_key is not None else None
        _check(_lib.ewsn_save_mime(self._handle, watch, item_id.encode(), key, os.fsencode(path)))

    def push_feed(self, body: bytes) -> dict:
        """Gives such a body to this client, whose watches have `mode="push"`: `http_status` and `reply` to answer with, `messages`
        with what became of each. The events come by `next`.
        """
        text = _lib.ewsn_push_feed_json(self._handle, body)
        return json.loads(text) if text is not None else _fail()

    def save_attachment(self, watch: int, attachment_id: str, path: str) -> None:
        """Asks for an attachment by its `id` in `attachments` and writes its content into a new file."""
        _check(_lib.ewsn_save_attachment(self._handle, watch, attachment_id.encode(), os.fsencode(path)))

    def trace_wire(self, path: Optional[str]) -> None:
        """Writes every request and answer from now on to this file (mode 0600), without secrets; None ends it."""
        _check(_lib.ewsn_trace_wire(self._handle, None if path is None else os.fsencode(path)))

    def status(self) -> dict:
        """What is going on: watches, connections, counters."""
        text = _lib.ewsn_status_json(self._handle)
        return json.loads(text) if text is not None else _fail()

    def on_event(self, callback: Callable[[dict], Any]) -> None:
        """Registers what `dispatch` calls, with an event. What it raises comes out of `dispatch`."""
        self._callback = callback

    def dispatch(self, timeout: Optional[float] = None) -> Optional[int]:
        """Waits for an event and calls what was registered for it and for those that are there already, on this thread.

        How many there were; None once the client is closed and every event was taken.
        """
        # Not by ewsn_dispatch: ctypes drops a KeyboardInterrupt that is raised as a callback begins.
        count = 0
        while True:
            if self._callback is None:
                raise RuntimeError("dispatch: nothing was registered with on_event")
            try:
                event = self.next(0 if count else timeout)
            except StopIteration:
                return count or None
            if event is None:
                return count
            count += 1
            self._callback(event)

    def close(self, timeout: Optional[float] = None) -> None:
        """Tells the server, for as long as the time allows, and ends everything. The last events are `Closed`."""
        _check(_lib.ewsn_close(self._handle, _milliseconds(timeout)))

    def free(self) -> None:
        """Frees the client; closes it first, if that was not done, but has the event that came last told again (ack="auto")."""
        handle, self._handle = self._handle, None
        _lib.ewsn_free(handle)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        # What an exception has interrupted has not been dealt with. Who ends by one in good order (sys.exit) calls close before.
        if kind is None:
            self.close()
        self.free()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.free()
