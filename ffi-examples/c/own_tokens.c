/* Watches a mailbox with tokens that this program gets itself: from a command that prints the token endpoint's answer.
 *
 *   cc -o own_tokens own_tokens.c $(pkg-config --cflags --libs ewsnotify)
 *   EWSNOTIFY_OPTIONS='{"url": "mail.example.com", "user": "ada@example.com", "auth": "host"}' ./own_tokens COMMAND
 *
 * The command finds in EWSN_CLAIMS, if it is set, what it has to send as the parameter claims. Each event is a JSON line. It ends with 2
 * without options or command, with 4 where somebody has to sign in anew, and with 1 when the mailbox is given up otherwise. */
#define _POSIX_C_SOURCE 200809L
#include <ewsnotify.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { AGAIN = 30, RETRY_MS = 60000 };

static ewsn_client *client;
static char answer[65536];

/* A text of the answer, cut out of it. A program with a JSON parser uses that. */
static char *text_of(const char *name, char *out, size_t size) {
  char key[64];
  snprintf(key, sizeof key, "\"%s\":\"", name);
  const char *begin = strstr(answer, key);
  if (!begin) return NULL;
  begin += strlen(key);
  size_t length = strcspn(begin, "\"");
  if (length >= size) return NULL;
  memcpy(out, begin, length);
  out[length] = '\0';
  return out;
}

/* Gives a token, or says why there is none. 0 where it has to be tried again. */
static int fetch(const char *command, const char *account) {
  static char token[32768], error[256];
  time_t asked = time(NULL);
  FILE *pipe = popen(command, "r");
  if (!pipe) return 0;
  size_t length = fread(answer, 1, sizeof answer - 1, pipe);
  answer[length] = '\0';
  pclose(pipe);
  if (text_of("error", error, sizeof error)) {
    /* These are for people; what else there is may pass. */
    static const char *const people[] = {"invalid_grant", "interaction_required", "consent_required", "invalid_client"};
    for (size_t n = 0; n < sizeof people / sizeof *people; n++)
      if (!strcmp(error, people[n])) return ewsn_set_token(client, account, NULL, 0, error) == EWSN_OK;
    fprintf(stderr, "no token for now: %s\n", error);
    return 0;
  }
  const char *life = strstr(answer, "\"expires_in\":");
  if (!life || !text_of("access_token", token, sizeof token)) return 0;
  int64_t expires = ((int64_t)asked + atol(life + strlen("\"expires_in\":"))) * 1000;
  int given = ewsn_set_token(client, account, token, expires, NULL) == EWSN_OK;
  if (!given) fprintf(stderr, "ewsn_set_token: %s\n", ewsn_last_error());
  memset(token, 0, sizeof token);
  memset(answer, 0, sizeof answer);
  return given;
}

int main(int argc, char **argv) {
  const char *options = getenv("EWSNOTIFY_OPTIONS");
  if (!options || argc != 2) {
    fprintf(stderr, "usage: EWSNOTIFY_OPTIONS='{\"url\": ...}' %s COMMAND\n", argv[0]);
    return 2;
  }
  /* An event counts as dealt with when it is acknowledged. */
  if (ewsn_abi_check(EWSN_ABI) != EWSN_OK || !(client = ewsn_open_json(options)) || !ewsn_watch_json(client, "{\"ack\": \"manual\"}")) {
    fprintf(stderr, "%s\n", ewsn_last_error());
    return 1;
  }
  char owed[1024] = ""; /* the account that needs a token */
  time_t try_at = 0;
  int result = 0;
  for (;;) {
    ewsn_event *event = NULL;
    ewsn_status status = ewsn_next(client, *owed ? 1000 : -1, &event);
    if (status == EWSN_CLOSED) break;
    if (status < 0) {
      fprintf(stderr, "ewsn_next: %s\n", ewsn_last_error());
      result = 1;
      break;
    }
    if (status == EWSN_OK) {
      if (puts(ewsn_event_json(event)) < 0 || fflush(stdout)) {
        perror("standard output");
        ewsn_event_free(event);
        result = 1;
        break;
      }
      const char *content = ewsn_event_str(event, EWSN_F_CONTENT);
      if (ewsn_event_str(event, EWSN_F_ITEM_ID)) {
        int again = content && !strcmp(content, "unavailable");
        uint64_t seq = ewsn_event_seq(event);
        if ((again ? ewsn_nack(client, seq, EWSN_RETRY, RETRY_MS) : ewsn_ack(client, seq)) != EWSN_OK)
          fprintf(stderr, "the acknowledgement: %s\n", ewsn_last_error());
      }
      const char *reason = ewsn_event_str(event, EWSN_F_REASON);
      if (!reason) reason = "";
      if (ewsn_event_type(event) == EWSN_TOKEN_NEEDED) {
        const char *claims = ewsn_event_str(event, EWSN_F_CLAIMS);
        if (claims) setenv("EWSN_CLAIMS", claims, 1);
        else unsetenv("EWSN_CLAIMS");
        snprintf(owed, sizeof owed, "%s", ewsn_event_str(event, EWSN_F_ACCOUNT));
        try_at = 0;
      } else if (ewsn_event_type(event) == EWSN_CLOSED_EVENT && ewsn_event_watch(event) != 0 && strcmp(reason, "closed-by-host")) {
        result = strcmp(reason, "sign-in-refused") ? 1 : 4;
        ewsn_close(client, -1);
      }
      ewsn_event_free(event);
    }
    if (*owed && try_at <= time(NULL)) {
      if (fetch(argv[1], owed)) *owed = '\0';
      else try_at = time(NULL) + AGAIN;
    }
  }
  ewsn_free(client);
  return result;
}
