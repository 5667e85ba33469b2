/* libewsnotify: tells a program at once when something happens in an Exchange mailbox.
 *
 * Words      client: one process's watches, their connections, state and queue. watch: one mailbox with its folders, events and
 *            mode; the server's subscriptions behind it come and go unseen. event: something that the host is told.
 * Handles    opaque. Each is freed by the *_free of its kind; to free NULL, or one that was freed already, does no harm. Any
 *            order is safe. A handle that is none gives EWSN_E_INVALID.
 * Strings    in: UTF-8, ended by NUL, copied. Out: const; they belong to the handle, or, where the comment says so, to the
 *            calling thread until its next call of the same function. Never to be freed by the host.
 * Results    0 success, above 0 a normal outcome, below 0 an error: ewsn_last_error() has its text. Functions that return a
 *            pointer or a number return NULL, 0 or -1 for an error, and ewsn_last_status() has the status. Nothing is written
 *            on error.
 * Threads    any function from any thread. ewsn_wake also in a signal handler. The library's own threads block all signals.
 * Callbacks  inside ewsn_dispatch, on the thread that calls it; with option dispatch=thread (C and C++ only) on one thread of the
 *            library's. No lock is held while they run.
 * fork       a client belongs to the process that opened it: elsewhere EWSN_E_FORKED, and ewsn_free does no harm. Open a new
 *            one in the child.
 */
/* Without a preprocessor, for PHP FFI and Python cffi. */

/*
 The version of the interface that this library was built with. It rises when something is added.
 */
enum { EWSN_ABI = 1 };

/*
 The version of the library that this header came with: its first number.
 */
enum { EWSN_VERSION_MAJOR = 0 };

/*
 The second.
 */
enum { EWSN_VERSION_MINOR = 1 };

/*
 The third.
 */
enum { EWSN_VERSION_PATCH = 0 };

/*
 For `ewsn_nack`: give the event again after so long.
 */
enum { EWSN_RETRY = 1 };

/*
 For `ewsn_nack`: keep it, and do not give it again before it is released.
 */
enum { EWSN_PARK = 2 };

/*
 `NewMail`: a message was delivered into a watched folder.
 */
enum { EWSN_NEW_MAIL = 1 };

/*
 `Created`: an item or folder came to be in a watched folder.
 */
enum { EWSN_CREATED = 2 };

/*
 `Deleted`: an item or folder is gone for good.
 */
enum { EWSN_DELETED = 3 };

/*
 `Modified`: an item or folder changed.
 */
enum { EWSN_MODIFIED = 4 };

/*
 `Moved`: an item or folder moved; its id is new, the old one is in `EWSN_F_OLD_ITEM_ID` or `EWSN_F_OLD_FOLDER_ID`.
 */
enum { EWSN_MOVED = 5 };

/*
 `Copied`: an item or folder was copied.
 */
enum { EWSN_COPIED = 6 };

/*
 `FreeBusyChanged`: the free/busy times of a calendar changed.
 */
enum { EWSN_FREE_BUSY_CHANGED = 7 };

/*
 `Connected`: from here on events come live.
 */
enum { EWSN_CONNECTED = 100 };

/*
 `Disconnected`: the link is gone; the library reconnects by itself.
 */
enum { EWSN_DISCONNECTED = 101 };

/*
 `Resubscribed`: the server had lost the subscription; it was made anew.
 */
enum { EWSN_RESUBSCRIBED = 102 };

/*
 `Gap`: something may have been missed; says since when, why, and whether it will be told.
 */
enum { EWSN_GAP = 103 };

/*
 `Drained`: all that catch-up found has been handed out.
 */
enum { EWSN_DRAINED = 104 };

/*
 `TokenNeeded`: answer with `ewsn_set_token`. Ahead of all other events, and again every five minutes until it is answered.
 */
enum { EWSN_TOKEN_NEEDED = 105 };

/*
 `TokenRotated`: keep this refresh token in the place of the old one, then acknowledge the event. Ahead of all other events, and
 again every minute until it is acknowledged.
 */
enum { EWSN_TOKEN_ROTATED = 106 };

/*
 `StateChanged`: keep this key and value (or remove the key, where there is no value), then acknowledge the event: only with
 `ewsn_open_with_state_json`.
 */
enum { EWSN_STATE_CHANGED = 107 };

/*
 `Error`: something failed that the host should know of.
 */
enum { EWSN_ERROR = 108 };

/*
 `Log`: a line of the library's log, where option `log` asks for it.
 */
enum { EWSN_LOG = 109 };

/*
 `Closed`: the last event of a watch; with watch 0, of the client. A watch that was given up (a refused sign-in, a mailbox that is
 gone) ends so too, by a reason that is not `closed-by-host`, and the client stays open: a program that has no other watch ends then, or it
 waits for ever.
 */
enum { EWSN_CLOSED_EVENT = 110 };

/*
 Text: the watch's mailbox.
 */
enum { EWSN_F_MAILBOX = 1 };

/*
 Text: the item's id.
 */
enum { EWSN_F_ITEM_ID = 2 };

/*
 Text: the change key as the event told it.
 */
enum { EWSN_F_CHANGE_KEY = 3 };

/*
 Text: the folder's id, where the event is about a folder.
 */
enum { EWSN_F_FOLDER_ID = 4 };

/*
 Text: the folder that the item or folder is in.
 */
enum { EWSN_F_PARENT_FOLDER_ID = 5 };

/*
 Text: what the item's id was (`Moved`), or its original's (`Copied`).
 */
enum { EWSN_F_OLD_ITEM_ID = 6 };

/*
 Text: what the folder's id was.
 */
enum { EWSN_F_OLD_FOLDER_ID = 7 };

/*
 Text: the folder it was in.
 */
enum { EWSN_F_OLD_PARENT_FOLDER_ID = 8 };

/*
 Text: `live` or `catch-up`.
 */
enum { EWSN_F_ORIGIN = 9 };

/*
 Text: the subject. This and the following with option `fetch`.
 */
enum { EWSN_F_SUBJECT = 10 };

/*
 Text: the sender, `Name <address>`.
 */
enum { EWSN_F_FROM = 11 };

/*
 Text: the Internet message id.
 */
enum { EWSN_F_MESSAGE_ID = 12 };

/*
 Text: the file with the whole message. It is the host's to remove.
 */
enum { EWSN_F_MIME_PATH = 13 };

/*
 Text: what happened, for people.
 */
enum { EWSN_F_MESSAGE = 14 };

/*
 Text: the server's own response code.
 */
enum { EWSN_F_SERVER_CODE = 15 };

/*
 Text: of `EWSN_STATE_CHANGED`, the key.
 */
enum { EWSN_F_KEY = 16 };

/*
 Text: of `EWSN_STATE_CHANGED`, the value; none where the key is to be removed.
 */
enum { EWSN_F_VALUE = 17 };

/*
 Text: the recipients, a JSON array of texts.
 */
enum { EWSN_F_TO = 18 };

/*
 Text: when it was received, RFC 3339.
 */
enum { EWSN_F_RECEIVED = 19 };

/*
 Text: the attachments, a JSON array of objects.
 */
enum { EWSN_F_ATTACHMENTS = 20 };

/*
 Text: why, of lifecycle events.
 */
enum { EWSN_F_REASON = 21 };

/*
 Text: of a gap, when the last thing came that proves that nothing was missed, RFC 3339.
 */
enum { EWSN_F_SINCE = 22 };

/*
 Text: of a gap, `pending`, `partial` or `none`.
 */
enum { EWSN_F_FILL = 23 };

/*
 Text: what became of the content that `fetch` asked for.
 */
enum { EWSN_F_CONTENT = 24 };

/*
 Text: of a token, whose it is.
 */
enum { EWSN_F_ACCOUNT = 25 };

/*
 Text: of a token that is needed, whom it is for, as `https://mail.example.com`.
 */
enum { EWSN_F_RESOURCE = 26 };

/*
 Text: of a token that is needed, the claims that the server wants to be in it: JSON, to be sent to the token endpoint as its parameter
 `claims`.
 */
enum { EWSN_F_CLAIMS = 27 };

/*
 Text: of `EWSN_TOKEN_ROTATED`, the new refresh token.
 */
enum { EWSN_F_REFRESH_TOKEN = 29 };

/*
 Text: of a line of the log, `warn`, `info` or `debug`.
 */
enum { EWSN_F_LEVEL = 28 };

/*
 Number: the folder's count of unread items.
 */
enum { EWSN_F_UNREAD_COUNT = 50 };

/*
 Number: the HTTP status.
 */
enum { EWSN_F_HTTP_STATUS = 52 };

/*
 Number: when the library tries again, in milliseconds.
 */
enum { EWSN_F_RETRY_MS = 53 };

/*
 Number: which attempt this is; 1 for the first.
 */
enum { EWSN_F_ATTEMPT = 54 };

/*
 Number: the size in bytes, as the server counts it.
 */
enum { EWSN_F_SIZE = 56 };

/*
 Number: 1 for read, 0 for unread.
 */
enum { EWSN_F_IS_READ = 57 };

/*
 What `ewsn_event_int` returns where there is nothing.
 */
enum { EWSN_NONE = -1 };

/*
 A client: one process's watches, their connections and the queue of their events.
 */
typedef struct ewsn_client ewsn_client;

/*
 An event.
 */
typedef struct ewsn_event ewsn_event;

/*
 Options of a client or a watch, by key.
 */
typedef struct ewsn_options ewsn_options;

/*
 What a call came to: 0 success, above 0 a normal outcome, below 0 an error with a text in `ewsn_last_error`.
 */
typedef int32_t ewsn_status;

/*
 Takes an event, which is freed when it returns: `ewsn_event_dup` keeps it. Any function of the library may be called in it,
 `ewsn_close` and `ewsn_free` too.
 */
typedef void (*ewsn_event_fn)(void *user, ewsn_client *client, const ewsn_event *event);

/*
 Says that `user` is not needed any more. It must return.
 */
typedef void (*ewsn_drop_fn)(void *user);

/*
 Done.
 */
enum { EWSN_OK = 0 };

/*
 Nothing came in time.
 */
enum { EWSN_TIMEOUT = 1 };

/*
 Closed, and every event was taken: none will come any more.
 */
enum { EWSN_CLOSED = 2 };

/*
 A signal or `ewsn_wake` ended the wait.
 */
enum { EWSN_INTERRUPTED = 4 };

/*
 NULL, an unknown key or number, a bad value, a handle of another kind or one that was freed, text that is not UTF-8.
 */
enum { EWSN_E_INVALID = -1 };

/*
 Not possible now; also a state directory that cannot be written.
 */
enum { EWSN_E_STATE = -2 };

/*
 Header and library do not fit.
 */
enum { EWSN_E_ABI = -3 };

/*
 No connection, one that broke, nothing in time, or a file that cannot be written.
 */
enum { EWSN_E_IO = -4 };

/*
 The certificate, the protocol version, the handshake.
 */
enum { EWSN_E_TLS = -5 };

/*
 A signature was refused, or a sign-in is needed.
 */
enum { EWSN_E_AUTH = -6 };

/*
 An HTTP status that is none of the others'.
 */
enum { EWSN_E_HTTP = -7 };

/*
 An answer that cannot be understood.
 */
enum { EWSN_E_PROTOCOL = -8 };

/*
 The server's own error: `ewsn_last_error_code` has its code.
 */
enum { EWSN_E_SERVER = -9 };

/*
 A bound was met.
 */
enum { EWSN_E_LIMIT = -10 };

/*
 The client is closed.
 */
enum { EWSN_E_CLOSED = -11 };

/*
 The handle belongs to the process that made it, and this is a child forked from it.
 */
enum { EWSN_E_FORKED = -12 };

/*
 Another process owns the state directory.
 */
enum { EWSN_E_LOCKED = -13 };

/*
 Not offered here.
 */
enum { EWSN_E_UNSUPPORTED = -14 };

/*
 A bug in the library, caught.
 */
enum { EWSN_E_INTERNAL = -15 };

/*
 The version of the interface that the loaded library has.
 */
int32_t ewsn_abi_version(void);

/*
 To be called first, with `EWSN_ABI` of the header: whether the loaded library has all that the header says. `EWSN_E_ABI`
 where it has not, for an older one.
 */
ewsn_status ewsn_abi_check(int32_t header_abi);

/*
 The version of the library, as `0.1.0`. Valid for ever.
 */
const char *ewsn_version(void);

/*
 The name of a status, as `EWSN_OK`; `EWSN_?` for an unknown one. Valid for ever.
 */
const char *ewsn_status_name(int32_t status);

/*
 Opens a client. `options` may be NULL: all defaults. Nothing is sent before the first watch, and no thread is started
 before the first client.
 */
ewsn_status ewsn_open(const ewsn_options *options, ewsn_client **out);

/*
 The same, with the options as a JSON object (NULL for none). NULL where it fails: `ewsn_last_status` and
 `ewsn_last_error` say why.
 */
ewsn_client *ewsn_open_json(const char *json);

/*
 The same, for a host that keeps the state itself, in a database of its own: `state` is a JSON object of the keys and values that
 it has (`{}` at the very first). Each change comes as an `EWSN_STATE_CHANGED` event, ahead of others: write or remove what it
 names, then acknowledge it by its number; the next one comes after that. An event is acknowledged for good when the host has
 acknowledged the `EWSN_STATE_CHANGED` events that follow its acknowledgement.
 */
ewsn_client *ewsn_open_with_state_json(const char *json,
                                       const char *state);

/*
 Begins to watch a mailbox; returns at once. `options` (NULL for none) are the watch's own; what they leave out is as the
 client has it. The number that its events carry goes to `out_watch`, which may be NULL. What goes wrong with the server is
 told by events.
 */
ewsn_status ewsn_watch(ewsn_client *c, const ewsn_options *options, uint64_t *out_watch);

/*
 The same, with the options as a JSON object (NULL for none). The watch's number; 0 where it fails.
 */
uint64_t ewsn_watch_json(ewsn_client *c, const char *json);

/*
 Ends a watch: its `Closed` event follows. With option `ack=auto` its event that was given last counts as dealt with. The same may be watched again at once, also with other options; with a state it goes on
 where it stood, and is refused while the server is being asked to put an item of it away (`after_ack`).
 */
ewsn_status ewsn_unwatch(ewsn_client *c,
                         uint64_t watch);

/*
 Waits for the next event, at most `timeout_ms` milliseconds; a negative one waits for ever. `EWSN_OK` with the event in `out`,
 to be freed with `ewsn_event_free`; `EWSN_TIMEOUT`, `EWSN_INTERRUPTED` (a signal or `ewsn_wake`), `EWSN_CLOSED` (none will come
 any more). With option `ack=auto`, asking for the next event acknowledges the last one; that is written within 100 ms, and by
 `ewsn_close`. `EWSN_E_STATE` with option `dispatch=thread`.
 */
ewsn_status ewsn_next(ewsn_client *c,
                      int32_t timeout_ms,
                      ewsn_event **out);

/*
 The same for hosts that would rather read JSON: the event as one line, or NULL, and `ewsn_last_status` says which of the
 outcomes it was. Valid until this thread's next call of it.
 */
const char *ewsn_next_json(ewsn_client *c, int32_t timeout_ms);

/*
 A descriptor that is readable (`poll`, `select`, an event loop) while `ewsn_next` would not wait. Do not read from it or
 close it. It lives as long as the client. -1 for a handle that is none.
 */
int32_t ewsn_fd(const ewsn_client *c);

/*
 Ends one wait: the one that is under way, else the next. From any thread, and from a signal handler. It leaves
 `ewsn_last_status` as it is.
 */
void ewsn_wake(ewsn_client *c);

/*
 Says that the event of this number has been dealt with: it will not be told again. For watches with `ack=manual`. Returns
 when that is durable, if there is a state directory.
 */
ewsn_status ewsn_ack(ewsn_client *c, uint64_t seq);

/*
 Says that the event of this number could not be dealt with: `EWSN_RETRY` gives it again after `delay_ms` milliseconds,
 `EWSN_PARK` when it is released. Others do not wait for it. Returns when that is durable, if there is a state directory.
 */
ewsn_status ewsn_nack(ewsn_client *c, uint64_t seq, int32_t how, int64_t delay_ms);

/*
 Gives a token to sign in with, as the answer to `EWSN_TOKEN_NEEDED` or ahead of it: for all watches with option `auth=host` and
 this account (option `account`, by default `user`). `expires_unix_ms` is when it ends, in milliseconds since 1970; 0 where that
 is not known. With `token` NULL it says that there is none before somebody signs in, and `why_not` why: the account's watches
 end. The text is copied; `why_not` may be NULL. `EWSN_E_INVALID` for a token that has expired or that a server has refused.
 */
ewsn_status ewsn_set_token(ewsn_client *c,
                           const char *account,
                           const char *token,
                           int64_t expires_unix_ms,
                           const char *why_not);

/*
 The parked events, as a JSON array: `id`, `attempts`, `event`. Valid until this thread's next call of it.
 */
const char *ewsn_parked_json(ewsn_client *c);

/*
 Gives a parked event again, by its `id` in `ewsn_parked_json`.
 */
ewsn_status ewsn_release(ewsn_client *c, uint64_t id);

/*
 Asks the server for an item by its id and change key (which may be NULL), on the calling thread and a connection of its own;
 with watch 0, by the client's own options. JSON: `subject`, `from`, `to`, `received`, `message_id`, `size`, `attachments`. Valid until this thread's next call of it;
 NULL where it fails.
 */
const char *ewsn_get_item_json(ewsn_client *c,
                               uint64_t watch,
                               const char *item_id,
                               const char *change_key);

/*
 Asks the server for a whole message and puts it into a file, mode 0600, which must not be there yet.
 */
ewsn_status ewsn_save_mime(ewsn_client *c, uint64_t watch, const char *item_id, const char *change_key, const char *path);

/*
 Asks the server for an attachment, by the `id` that a summary's `attachments` tell, and puts its content into a file, mode
 0600, which must not be there yet: a file as it is, an attached item as the whole message. With watch 0, by the client's own
 options.
 */
ewsn_status ewsn_save_attachment(ewsn_client *c, uint64_t watch, const char *attachment_id, const char *path);

/*
 What is going on: watches, connections, counters, as JSON. Valid until this thread's next call of it. A watch's `state` is
 "starting", "connected", "catching-up", "awaiting-push" (subscribed, `unheard_ms` ago, and the server has sent nothing: does it
 reach `push_url`?), "degraded" (the link is gone and is tried again), "sign-in-needed" or "gone" (given up). With
 option `state_dir` the same lies there as status.json for those that do not have the library.
 */
const char *ewsn_status_json(ewsn_client *c);

/*
 Writes every request and answer from now on to this file (mode 0600, behind what is in it), or, with NULL, to none any more.
 What is said to token endpoints and proxies, and the pushes that `push_listen` takes, are among that. Secrets are left out,
 of mails all but their beginning. At 16 MiB the file becomes FILE.1, and a new one begins. Option
 `trace_wire` does the same from the start. A file that cannot be written any more is told once, by an `EWSN_ERROR` event.
 */
ewsn_status ewsn_trace_wire(ewsn_client *c, const char *path_or_null);

/*
 Closes a client from any thread and in every state. Waits for as many milliseconds as it is given for the server to be
 told; a negative time is option `close_timeout`. With option `ack=auto` the event that was given last counts as dealt with.
 Waits that are under way end, `Closed` is the last event. Again does no harm. `EWSN_TIMEOUT` where something still runs: with
 option `dispatch=thread`, a callback; from within that callback it does not wait for it.
 */
ewsn_status ewsn_close(ewsn_client *c,
                       int32_t timeout_ms);

/*
 Frees a client; closes it first, within option `close_timeout`, two seconds at most, if that was not done: but with option `ack=auto` the event that
 was given last does not count as dealt with, so who frees without closing, as an exception does, is told it again. Calls that are under way in other threads end with
 `EWSN_CLOSED`. With option `dispatch=thread`, no further callback begins; the state directory is free when the last one has
 returned, for which `ewsn_close` waits. NULL, and one that was freed already, do no harm; in a forked child it leaves the
 parent's connections alone.
 */
void ewsn_free(ewsn_client *c);

/*
 Registers what is called for each event; NULL takes it off. `user` is passed on. `drop` (may be NULL) is called exactly once,
 when another takes its place or the client is freed.

 With option `dispatch=host`, the default, `ewsn_dispatch` calls it, on the thread that calls that; replace it, or free the
 client, while no other thread dispatches. With `dispatch=thread` a thread of the library's calls it, for one event after the
 other, from the first call of this function on; while nothing is registered events wait. That thread has all signals blocked,
 a callback must return to it (no `longjmp`, no exception, no `pthread_exit`), and `drop` is called when the last callback with
 `user` has returned. For C and C++ only.
 */
ewsn_status ewsn_on_event(ewsn_client *c,
                          ewsn_event_fn run,
                          void *user,
                          ewsn_drop_fn drop);

/*
 Waits for an event as `ewsn_next` does, and calls what was registered for it and for those that are there already, on this
 thread: at most `max_events` of them (0 for any number). How many there were; 0 where nothing came in time;
 `EWSN_E_CLOSED` where none will come any more; 0 as well where a signal or `ewsn_wake` ended the wait:
 `ewsn_last_status` tells which.

 The callback may leave by `longjmp` or a C++ exception: nothing of the library's is held while it runs. Its event is the
 host's to free then. Where a language's signal handler may raise an exception as a callback begins or ends (Python, PHP), that
 is lost or fatal: loop over `ewsn_next_json` there, as the wrappers do.
 */
int32_t ewsn_dispatch(ewsn_client *c,
                      int32_t timeout_ms,
                      uint32_t max_events);

/*
 The status of this thread's last call of any other function.
 */
ewsn_status ewsn_last_status(void);

/*
 What went wrong in this thread's last call of any other function, for people: what was tried, with what, what came back and
 what to do. Empty where nothing did. Valid until this thread's next call.
 */
const char *ewsn_last_error(void);

/*
 The server's own response code (`ErrorItemNotFound`, …) where the last call got one; else empty. Valid until this thread's
 next call.
 */
const char *ewsn_last_error_code(void);

/*
 What kind of event it is: `EWSN_NEW_MAIL` and the like. 0 for a handle that is none.
 */
int32_t ewsn_event_type(const ewsn_event *e);

/*
 The watch that it belongs to; 0 for the client as a whole.
 */
uint64_t ewsn_event_watch(const ewsn_event *e);

/*
 Its number, which rises with every event of a client and, with a state directory, over restarts: for `ewsn_ack`.
 */
uint64_t ewsn_event_seq(const ewsn_event *e);

/*
 When it happened, in milliseconds since 1970, by the server's clock where it told us.
 */
int64_t ewsn_event_time_ms(const ewsn_event *e);

/*
 A field that is a text (`EWSN_F_…`); NULL where the event has none. Belongs to the event.
 */
const char *ewsn_event_str(const ewsn_event *e, int32_t field);

/*
 A field that is a number (`EWSN_F_…`); `EWSN_NONE` where the event has none.
 */
int64_t ewsn_event_int(const ewsn_event *e, int32_t field);

/*
 The event as one line of JSON. Belongs to the event.
 */
const char *ewsn_event_json(const ewsn_event *e);

/*
 Another handle of the same event, to be kept where the first goes: after a callback has returned. To be freed with
 `ewsn_event_free`.
 */
ewsn_event *ewsn_event_dup(const ewsn_event *e);

/*
 Frees an event and the texts that were read from it. It acknowledges nothing. NULL, and one that was freed already, do no
 harm.
 */
void ewsn_event_free(ewsn_event *e);

/*
 Options without a value: all defaults. To be freed with `ewsn_options_free`. NULL where there is no room for a handle.
 */
ewsn_options *ewsn_options_new(void);

/*
 Sets one. `ewsn_options_describe` lists the keys. Nothing is changed where the key is unknown or the value does not fit. Kerberos
 (`auth`, `negotiate`) is there only where the library was built with its cargo feature `gssapi`: otherwise `ewsn_watch` refuses it
 with `EWSN_E_UNSUPPORTED`.
 */
ewsn_status ewsn_options_set(ewsn_options *o,
                             const char *key,
                             const char *value);

/*
 Sets one whose value is a number.
 */
ewsn_status ewsn_options_set_int(ewsn_options *o, const char *key, int64_t value);

/*
 Sets those of a JSON object: `{"url": "mail.example.com", "fetch": "summary"}`. All or none.
 */
ewsn_status ewsn_options_set_json(ewsn_options *o, const char *json);

/*
 The table of all keys, as a JSON array of objects: `name`, `scope` (`client` or `watch`), `default`, `meaning`. Valid until
 this thread's next call of it.
 */
const char *ewsn_options_describe(void);

/*
 Frees options. NULL, and ones that were freed already, do no harm.
 */
void ewsn_options_free(ewsn_options *o);

/*
 Takes the body of a POST that Exchange sends by itself (`SendNotification`) apart, without a client, so in any web process. JSON:
 `reply` (the body to answer with, status 200, `Content-Type: text/xml; charset=utf-8`), `unsubscribe` (the same, to end the
 subscription), and `messages`, each with `subscription`, `previous_watermark`, `watermark`, `more_events`, `events`, and in errors
 `code` and `message`. Valid until this thread's next call of it; NULL for what is no notification, to be answered with status 400.
 */
const char *ewsn_push_parse_json(const char *body);

/*
 Gives the same body to a client whose watches have option `mode=push`; their events come as all others. Returns at once. JSON:
 `http_status` (200, or 503 where there is no room now) and `reply` (the body) to answer with, and `messages` with what became of
 each: `subscription`, `watch`, `outcome`, `events`. Valid until this thread's next call of it; NULL as above.
 */
const char *ewsn_push_feed_json(ewsn_client *c,
                                const char *body);

/*
 Begins the sign-in of a user by OAuth, without a client, so in any web process. `json` has the options of the watch:
 `oauth_tenant` (or `oauth_authority`, `oauth_token_url`), `oauth_client_id`, `user`, with `oauth_client_secret` also
 `oauth_grant=refresh_token`, and `oauth_token_store` or `state_dir` where the tokens are to be stored.

 With a browser: `redirect_or_null` is the whole URL of the page that it comes back to, as it is registered for the program. JSON:
 `url`, where to send it, and `kept`; nothing is sent here. On another device (`redirect_or_null` NULL), the issuer is asked:
 `uri`, the page to open there, `user_code`, what to type into it, `whole_uri` (the page with the code, null where there is none),
 `seconds`, how long that is good, and `kept`.

 `kept` is what `ewsn_sign_in_finish_json` goes on with, in this process or another: letters, digits, `.`, `-` and `_`. **A secret**:
 keep it in the user's session on the server, not in a cookie that others can read, nor in a page or a log. Valid until this
 thread's next call of it, which wipes it; NULL where it fails: `EWSN_E_INVALID` for options that are missing or contradict.
 */
const char *ewsn_sign_in_begin_json(const char *json,
                                    const char *redirect_or_null);

/*
 Goes on with a sign-in that `ewsn_sign_in_begin_json` began, with the same options and its `kept`.

 With a browser: `query_or_null` is what stands behind the `?` of the address that it came back to, as it came (in PHP
 `$_SERVER['QUERY_STRING']`); the code in it is exchanged, once: take `kept` out of the session first. `timeout_ms` counts for
 nothing then. On another device (`query_or_null` NULL): waits so many milliseconds at most until the user has signed in, asking as
 often as the issuer allows; 0 asks where a question is due and waits for nobody, a negative one waits as long as the code is good.

 `EWSN_OK`: the user has signed in. JSON: `stored`, whether the tokens are in the store, where watches with these options find
 them and renew them; `lasting`, whether there is a refresh token; `expires_unix_ms`, of the access token; and where nothing is set to
 store them in, `refresh_token` and `access_token`, for the host to keep: **secrets**. `EWSN_TIMEOUT` (not yet) or
 `EWSN_INTERRUPTED` (a signal ended the wait), of another device: `kept`, in the place of the one before, `retry_ms`, how long
 to the next question, and `trouble`, a text, where the issuer could not be asked: it is asked again. Valid until this thread's next call of it, which wipes it.

 NULL where it fails. `EWSN_E_INVALID`: the query of another sign-in, or none; a `kept` that is none, or of other options.
 `EWSN_E_AUTH`, and `ewsn_last_error_code` has the issuer's code: somebody said no (`access_denied`), the code was used or is too
 old (`invalid_grant`, `expired_token`), and the like: begin again. `EWSN_E_IO` and others as of the network: the same may work, where
 the issuer was not reached. No text has a secret; show them to people as they are, escaped for the page.

 On the calling thread. A request takes `call_timeout`, and no more than 30 seconds; neither time nor signal cuts it short, since
 tokens come once. Where another process is renewing this account's tokens, it is waited for, 45 seconds at most.
 */
const char *ewsn_sign_in_finish_json(const char *json,
                                     const char *kept,
                                     const char *query_or_null,
                                     int32_t timeout_ms);
