/* Prints what happens in a mailbox, a JSON line each.
 *
 *   cc -o watch watch.c $(pkg-config --cflags --libs ewsnotify)
 *   EWSNOTIFY_OPTIONS='{"url": "mail.example.com", "user": "ada@example.com", "password": "..."}' ./watch [next | poll | dispatch | thread]
 *
 * With "fetch": "mime" and "spool_dir": "mails" among the options, each message is in a file there, which the line names in mime_path;
 * with "state_dir", a restart goes on where this run stood. It ends with 0 by Ctrl-C or SIGTERM, with 2 without options, with 4 when the
 * sign-in is refused, and else with 1.
 *
 * Four ways to be told: ewsn_next; an event loop that polls the descriptor; a callback on this thread; a callback on a thread of
 * the library's (with "dispatch": "thread" among the options). */
#include <ewsnotify.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RETRY_MS = 60000 };

static ewsn_client *client;
static volatile sig_atomic_t stopped, given_up;

static void stop(int signal) {
  (void)signal;
  stopped = 1;
  ewsn_wake(client); /* a wait that has not begun yet would not see the signal */
}

static int failed(const char *what) {
  fprintf(stderr, "%s: %s\n", what, ewsn_last_error());
  return 1;
}

static int is(const char *text, const char *word) { return text && !strcmp(text, word); }

/* The end is as by a signal, which each way sees. */
static void give_up(int code) {
  given_up = code;
  kill(getpid(), SIGTERM);
}

static void handle(const ewsn_event *event) {
  uint64_t seq = ewsn_event_seq(event);
  const char *reason = ewsn_event_str(event, EWSN_F_REASON);
  if (given_up) return;
  if (puts(ewsn_event_json(event)) < 0 || fflush(stdout)) {
    /* Not acknowledged: the next run tells it again. */
    perror("standard output");
    give_up(1);
    return;
  }
  if (is(ewsn_event_str(event, EWSN_F_CONTENT), "unavailable")) {
    /* The server or the disk is in trouble: told again later, and its message is asked for anew. */
    if (ewsn_nack(client, seq, EWSN_RETRY, RETRY_MS) != EWSN_OK) failed("ewsn_nack");
  } else if (ewsn_event_str(event, EWSN_F_ITEM_ID)) {
    if (ewsn_ack(client, seq) != EWSN_OK) failed("ewsn_ack");
  }
  if (ewsn_event_type(event) == EWSN_CLOSED_EVENT && ewsn_event_watch(event) != 0 && !is(reason, "closed-by-host")) {
    /* The only watch was given up; an Error before it said why. Nothing more would come. */
    give_up(is(reason, "sign-in-refused") ? 4 : 1);
  }
}

/* Until there is nothing more, or the time is over. */
static int take(int timeout_ms) {
  for (;;) {
    ewsn_event *event = NULL;
    ewsn_status status = ewsn_next(client, timeout_ms, &event);
    if (status != EWSN_OK) return status;
    handle(event);
    ewsn_event_free(event);
  }
}

static int with_next(void) {
  while (!stopped) {
    int status = take(-1);
    if (status == EWSN_CLOSED) return 0;
    if (status < 0) return failed("ewsn_next");
  }
  return 0;
}

static int with_poll(void) {
  struct pollfd fd = {.fd = ewsn_fd(client), .events = POLLIN};
  while (!stopped) {
    if (poll(&fd, 1, 1000) <= 0) continue;
    int status = take(0);
    if (status == EWSN_CLOSED) return 0;
    if (status < 0) return failed("ewsn_next");
  }
  return 0;
}

static void told(void *user, ewsn_client *c, const ewsn_event *event) {
  (void)c;
  ++*(unsigned *)user;
  handle(event);
}

static int with_dispatch(void) {
  unsigned count = 0;
  if (ewsn_on_event(client, told, &count, NULL) != EWSN_OK) return failed("ewsn_on_event");
  while (!stopped) {
    int n = ewsn_dispatch(client, -1, 0);
    if (n == EWSN_E_CLOSED) break;
    if (n < 0) return failed("ewsn_dispatch");
  }
  fprintf(stderr, "%u events\n", count);
  return 0;
}

/* The library's thread calls; this one has nothing to do until the end. */
static int with_thread(void) {
  unsigned count = 0;
  sigset_t ends, before;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  sigprocmask(SIG_BLOCK, &ends, &before);
  if (ewsn_on_event(client, told, &count, NULL) != EWSN_OK) return failed("ewsn_on_event");
  while (!stopped) sigsuspend(&before);
  /* Returns when the last callback has: `count` is still here. */
  if (ewsn_close(client, 10000) != EWSN_OK) return failed("ewsn_close");
  fprintf(stderr, "%u events\n", count);
  return 0;
}

int main(int argc, char **argv) {
  const char *options = getenv("EWSNOTIFY_OPTIONS");
  if (!options) {
    fprintf(stderr, "usage: EWSNOTIFY_OPTIONS='{\"url\": ...}' %s [next | poll | dispatch | thread]\n", argv[0]);
    return 2;
  }
  const char *way = argc > 1 ? argv[1] : "next";

  if (ewsn_abi_check(EWSN_ABI) != EWSN_OK) return failed("ewsn_abi_check");
  client = ewsn_open_json(options);
  if (!client) return failed("ewsn_open_json");
  signal(SIGINT, stop);
  signal(SIGTERM, stop);
  /* An event counts as dealt with when `handle` says so. */
  if (!ewsn_watch_json(client, "{\"ack\": \"manual\"}")) return failed("ewsn_watch_json");

  int result = is(way, "poll")       ? with_poll()
               : is(way, "dispatch") ? with_dispatch()
               : is(way, "thread")   ? with_thread()
                                     : with_next();
  ewsn_close(client, -1);
  ewsn_free(client);
  return given_up ? given_up : result;
}
