/* Prints what happens in a mailbox, a JSON line each, and saves each new message.
 *
 *   cc -o watch watch.c $(pkg-config --cflags --libs ewsnotify)
 *   ./watch OPTIONS-AS-JSON [FOLDER-FOR-MESSAGES] [next | poll | dispatch | thread]
 *
 * Four ways to be told: ewsn_next; an event loop that polls the descriptor; a callback on this thread; a callback on a thread of
 * the library's (with "dispatch": "thread" among the options). Ctrl-C and SIGTERM end it. */
#include <ewsnotify.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static ewsn_client *client;
static const char *folder;
static int manual;
static volatile sig_atomic_t stopped;

static void stop(int signal) {
  (void)signal;
  stopped = 1;
  ewsn_wake(client); /* a wait that has not begun yet would not see the signal */
}

static int failed(const char *what) {
  fprintf(stderr, "%s: %s\n", what, ewsn_last_error());
  return 1;
}

static void handle(const ewsn_event *event) {
  uint64_t seq = ewsn_event_seq(event);
  const char *id = ewsn_event_str(event, EWSN_F_ITEM_ID);
  if (folder && ewsn_event_type(event) == EWSN_NEW_MAIL) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%llu.eml", folder, (unsigned long long)seq);
    const char *key = ewsn_event_str(event, EWSN_F_CHANGE_KEY);
    if (ewsn_save_mime(client, ewsn_event_watch(event), id, key, path) != EWSN_OK) failed(path);
  }
  puts(ewsn_event_json(event));
  fflush(stdout);
  if (manual && id && ewsn_ack(client, seq) != EWSN_OK) failed("ewsn_ack");
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
  if (argc < 2) {
    fprintf(stderr, "usage: %s OPTIONS-AS-JSON [FOLDER] [next | poll | dispatch | thread]\n", argv[0]);
    return 2;
  }
  if (argc > 2 && *argv[2]) folder = argv[2];
  const char *way = argc > 3 ? argv[3] : "next";
  manual = strstr(argv[1], "\"manual\"") != NULL;

  if (ewsn_abi_check(EWSN_ABI) != EWSN_OK) return failed("ewsn_abi_check");
  client = ewsn_open_json(argv[1]);
  if (!client) return failed("ewsn_open_json");
  signal(SIGINT, stop);
  signal(SIGTERM, stop);
  if (!ewsn_watch_json(client, NULL)) return failed("ewsn_watch_json");

  int result = !strcmp(way, "poll")       ? with_poll()
               : !strcmp(way, "dispatch") ? with_dispatch()
               : !strcmp(way, "thread")   ? with_thread()
                                          : with_next();
  ewsn_close(client, -1);
  ewsn_free(client);
  return result;
}
