/* Signs a user in on another device (a phone, a laptop); the tokens go into the store, where watches with these options find them.
 *
 *   cc -o sign_in sign_in.c $(pkg-config --cflags --libs ewsnotify)
 *   EWSNOTIFY_OPTIONS='{"user": "ada@example.com", "oauth_tenant": "example.com", "oauth_client_id": "...", "state_dir": "state"}' \
 *   ./sign_in
 *
 * The options are those of the watch, with "state_dir" or "oauth_token_store". It ends with 2 without options, with 4 where somebody
 * said no or nobody signed in, with 130 on Ctrl-C, and with 1 when it failed otherwise. */
#define _POSIX_C_SOURCE 200809L
#include <ewsnotify.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t stopped;

static void stop(int number) {
  (void)number;
  stopped = 1;
}

/* A text of the answer, cut out of it; none with escapes. A program with a JSON parser uses that. */
static char *text_of(const char *json, const char *name, char *out, size_t size) {
  char key[64];
  snprintf(key, sizeof key, "\"%s\":\"", name);
  const char *begin = strstr(json, key);
  if (!begin) return NULL;
  begin += strlen(key);
  size_t length = strcspn(begin, "\"");
  if (length >= size || memchr(begin, '\\', length)) return NULL;
  memcpy(out, begin, length);
  out[length] = '\0';
  return out;
}

static int failed(void) {
  fprintf(stderr, "the sign-in has failed: %s\n", ewsn_last_error());
  return ewsn_last_status() == EWSN_E_AUTH ? 4 : 1;
}

int main(void) {
  static char kept[65536], uri[1024], code[256];
  const char *options = getenv("EWSNOTIFY_OPTIONS");
  if (!options) {
    fprintf(stderr, "EWSNOTIFY_OPTIONS is not set: it has the options, as JSON\n");
    return 2;
  }
  /* Without SA_RESTART or with it: the wait ends. */
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = stop;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);

  const char *json = ewsn_abi_check(EWSN_ABI) == EWSN_OK ? ewsn_sign_in_begin_json(options, NULL) : NULL;
  if (!json) return failed();
  if (!text_of(json, "uri", uri, sizeof uri) || !text_of(json, "user_code", code, sizeof code) ||
      !text_of(json, "kept", kept, sizeof kept)) {
    fprintf(stderr, "the issuer's address or code cannot be shown\n");
    return 1;
  }
  printf("{\"type\":\"SignIn\",\"uri\":\"%s\",\"user_code\":\"%s\"}\n", uri, code);
  fflush(stdout);
  int32_t status;
  do {
    /* A signal that comes just before the wait is seen after a second. */
    json = ewsn_sign_in_finish_json(options, kept, NULL, 1000);
    if (!json) return failed();
    status = ewsn_last_status();
    if (status != EWSN_OK) text_of(json, "kept", kept, sizeof kept);
  } while (status != EWSN_OK && !stopped);
  memset(kept, 0, sizeof kept);
  if (status != EWSN_OK) return 130;
  /* Without a store it would have the tokens: to be kept, and not to be printed. */
  printf("{\"type\":\"SignedIn\",\"stored\":%s}\n", strstr(json, "\"stored\":true") ? "true" : "false");
  return 0;
}
