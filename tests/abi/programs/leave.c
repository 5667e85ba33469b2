/* A callback that leaves by longjmp, closes, frees: nothing of the library's is left held. */
#include <ewsnotify.h>

#include "must.h"

#include <setjmp.h>

static jmp_buf out;
static ewsn_event *left;
static int dropped;

static void leaves(void *user, ewsn_client *client, const ewsn_event *event) {
  (void)user, (void)client;
  left = (ewsn_event *)event;
  longjmp(out, 1);
}

static void frees(void *user, ewsn_client *client, const ewsn_event *event) {
  (void)user;
  ewsn_event *kept = ewsn_event_dup(event);
  ewsn_close(client, 0);
  ewsn_free(client);
  ewsn_free(client);
  if (!ewsn_event_json(kept)) exit(1);
  ewsn_event_free(kept);
}

static void drop(void *user) {
  (void)user;
  ++dropped;
}

static int with(ewsn_event_fn callback) {
  ewsn_client *client = ewsn_open_json("{\"url\": \"http://127.0.0.1:1\", \"user\": \"u\", \"password\": \"p\"}");
  MUST(client);
  MUST(ewsn_on_event(client, callback, NULL, drop) == EWSN_OK);
  MUST(ewsn_watch_json(client, NULL) != 0);
  for (int i = 0; i < 3; ++i) {
    if (setjmp(out) == 0) {
      if (ewsn_dispatch(client, 10000, 1) == EWSN_E_INVALID) break; /* freed */
      if (callback == leaves) return 1;
    } else {
      ewsn_event_free(left);
      if (i == 0) MUST(ewsn_unwatch(client, 1) == EWSN_OK);
      if (i == 1) MUST(ewsn_close(client, 0) == EWSN_OK);
    }
  }
  ewsn_free(client);
  return 0;
}

int main(void) {
  for (int i = 0; i < 20; ++i) {
    if (with(leaves) || with(frees)) return 1;
  }
  if (dropped == 40) puts("fine");
  return dropped == 40 ? 0 : 1;
}
