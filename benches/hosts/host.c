/* Takes events that lie in the queue already, and says how long each took: host OPTIONS WAY COUNT */
#include <ewsnotify.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const int FIELDS[] = {EWSN_F_MAILBOX,   EWSN_F_ITEM_ID, EWSN_F_CHANGE_KEY, EWSN_F_PARENT_FOLDER_ID,
                             EWSN_F_FOLDER_ID, EWSN_F_ORIGIN,  EWSN_F_SUBJECT};
static unsigned long taken, seen;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

/* Ten fields. */
static void read_fields(const ewsn_event *event) {
  for (unsigned i = 0; i < sizeof FIELDS / sizeof *FIELDS; ++i) {
    const char *text = ewsn_event_str(event, FIELDS[i]);
    if (text) seen += strlen(text);
  }
  seen += ewsn_event_type(event) + ewsn_event_seq(event) + ewsn_event_time_ms(event);
}

static void told(void *user, ewsn_client *client, const ewsn_event *event) {
  (void)user, (void)client;
  read_fields(event);
  ++taken;
}

int main(int argc, char **argv) {
  (void)argc;
  const char *way = argv[2];
  unsigned long count = strtoul(argv[3], NULL, 10);
  ewsn_client *client = ewsn_open_json(argv[1]);
  if (!client || !ewsn_watch_json(client, NULL)) return fprintf(stderr, "%s\n", ewsn_last_error()), 1;
  for (int awaited = 2; awaited;) {
    const char *text = ewsn_next_json(client, 60000);
    if (!text) return 1;
    awaited -= strstr(text, "\"Connected\"") || strstr(text, "\"Drained\"");
  }
  puts("ready");
  fflush(stdout);
  for (unsigned long queued = 0; queued < count; usleep(10000)) {
    sscanf(strstr(ewsn_status_json(client), "\"queued\":"), "\"queued\":%lu", &queued);
  }
  ewsn_on_event(client, told, NULL, NULL);
  double began = now();
  if (!strcmp(way, "accessors")) {
    for (; taken < count; ++taken) {
      ewsn_event *event;
      if (ewsn_next(client, 0, &event) != EWSN_OK) return 1;
      read_fields(event);
      ewsn_event_free(event);
    }
  } else if (!strcmp(way, "JSON")) {
    for (; taken < count; ++taken) seen += strlen(ewsn_next_json(client, 0));
  } else {
    while (taken < count) {
      if (ewsn_dispatch(client, 0, 256) <= 0) return 1;
    }
  }
  printf("%.0f\n", (now() - began) / count);
  ewsn_close(client, 0);
  ewsn_free(client);
  return seen == 0;
}
