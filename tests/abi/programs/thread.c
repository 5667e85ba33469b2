/* A callback on a thread of the library's (option dispatch=thread). */
#include <ewsnotify.h>

#include "must.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct told {
  pthread_t main;
  int calls, inside, closed, dropped, frees;
};

static void call(void *user, ewsn_client *client, const ewsn_event *event) {
  struct told *told = user;
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, NULL, &blocked);
  MUST(sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGINT));
  MUST(!pthread_equal(pthread_self(), told->main));
  pthread_mutex_lock(&lock);
  MUST(++told->inside == 1 && !told->dropped); /* one at a time, and never after `drop` */
  ++told->calls;
  told->closed += ewsn_event_type(event) == EWSN_CLOSED_EVENT && ewsn_event_watch(event) == 0;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  MUST(ewsn_event_json(event));
  if (told->frees) {
    ewsn_close(client, -1); /* does not wait for itself */
    ewsn_free(client);
    MUST(ewsn_close(client, 0) == EWSN_E_INVALID);
  }
  pthread_mutex_lock(&lock);
  --told->inside;
  pthread_mutex_unlock(&lock);
}

static void drop(void *user) {
  struct told *told = user;
  pthread_mutex_lock(&lock);
  MUST(!told->inside);
  ++told->dropped;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
}

#define AWAIT(condition) \
  do { \
    pthread_mutex_lock(&lock); \
    while (!(condition)) pthread_cond_wait(&changed, &lock); \
    pthread_mutex_unlock(&lock); \
  } while (0)

int main(void) {
  const char *options =
      "{\"url\": \"http://127.0.0.1:1\", \"user\": \"u\", \"password\": \"p\", \"dispatch\": \"thread\", \"log\": \"debug\"}";
  for (int i = 0; i < 20; ++i) {
    struct told first = {.main = pthread_self()}, second = first, frees = first;
    ewsn_client *client = ewsn_open_json(options);
    MUST(client && ewsn_watch_json(client, NULL));
    ewsn_event *event = NULL;
    MUST(ewsn_next(client, 0, &event) == EWSN_E_STATE && !event);
    MUST(!ewsn_next_json(client, 0) && ewsn_last_status() == EWSN_E_STATE);
    MUST(ewsn_dispatch(client, 0, 0) == EWSN_E_STATE);
    MUST(ewsn_on_event(client, call, &first, drop) == EWSN_OK);
    AWAIT(first.calls > 2);
    /* Another takes its place; the first is dropped when its last call has returned. */
    MUST(ewsn_on_event(client, call, &second, drop) == EWSN_OK);
    AWAIT(first.dropped == 1);
    MUST(ewsn_watch_json(client, NULL));
    AWAIT(second.calls > 0);
    /* While nobody listens events wait. */
    MUST(ewsn_on_event(client, NULL, NULL, NULL) == EWSN_OK);
    AWAIT(second.dropped == 1);
    int calls = second.calls;
    MUST(ewsn_watch_json(client, NULL));
    second.dropped = 0;
    MUST(ewsn_on_event(client, call, &second, drop) == EWSN_OK);
    AWAIT(second.calls > calls);
    if (i % 2) {
      /* The last event was told when close returns, and nothing runs any more. */
      MUST(ewsn_close(client, 20000) == EWSN_OK);
      MUST(second.closed == 1 && !second.inside);
      calls = second.calls;
    }
    ewsn_free(client);
    AWAIT(second.dropped == 1);
    MUST(!(i % 2) || calls == second.calls);

    /* Closed and freed by the callback itself. */
    frees.frees = 1;
    client = ewsn_open_json(options);
    MUST(client && ewsn_watch_json(client, NULL));
    MUST(ewsn_on_event(client, call, &frees, drop) == EWSN_OK);
    AWAIT(frees.dropped == 1);
    MUST(frees.calls == 1 && first.dropped == 1);

    /* Nobody ever listens. */
    client = ewsn_open_json(options);
    MUST(client && ewsn_watch_json(client, NULL));
    if (i % 2) MUST(ewsn_close(client, -1) == EWSN_OK);
    ewsn_free(client);
  }
  puts("fine");
  return 0;
}
