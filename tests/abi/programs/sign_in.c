/* A sign-in on another device, with a minute to the next question: what does not wait returns at once, a signal ends the wait that has
 * no end, and what is kept goes on in a child as in the parent. Argument: the options. */
#define _POSIX_C_SOURCE 200809L
#include <ewsnotify.h>

#include "must.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t rings;

static void ring(int number) {
  (void)number;
  /* Twenty seconds: no wait of the library's has ended. */
  if (++rings > 200) _exit(1);
}

static char *kept_of(const char *json) {
  MUST(json);
  const char *begin = strstr(json, "\"kept\":\"");
  MUST(begin);
  begin += strlen("\"kept\":\"");
  size_t length = strcspn(begin, "\"");
  char *kept = malloc(length + 1);
  MUST(kept);
  memcpy(kept, begin, length);
  kept[length] = '\0';
  return kept;
}

int main(int argc, char **argv) {
  MUST(argc == 2);
  char *begun = kept_of(ewsn_sign_in_begin_json(argv[1], NULL));
  char *kept = kept_of(ewsn_sign_in_finish_json(argv[1], begun, NULL, 0));
  MUST(ewsn_last_status() == EWSN_TIMEOUT);
  free(kept);
  kept = kept_of(ewsn_sign_in_finish_json(argv[1], begun, NULL, 50));
  MUST(ewsn_last_status() == EWSN_TIMEOUT);
  MUST(*ewsn_last_error() == '\0');

  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = ring;
  action.sa_flags = SA_RESTART;
  MUST(sigaction(SIGALRM, &action, NULL) == 0);
  struct itimerval often = {{0, 100000}, {0, 100000}}, never = {{0, 0}, {0, 0}};
  MUST(setitimer(ITIMER_REAL, &often, NULL) == 0);
  char *next = kept_of(ewsn_sign_in_finish_json(argv[1], kept, NULL, -1));
  MUST(ewsn_last_status() == EWSN_INTERRUPTED);
  MUST(setitimer(ITIMER_REAL, &never, NULL) == 0);

  pid_t child = fork();
  MUST(child >= 0);
  if (child == 0) {
    char *again = kept_of(ewsn_sign_in_finish_json(argv[1], next, NULL, 0));
    MUST(ewsn_last_status() == EWSN_TIMEOUT);
    free(again);
    _exit(0);
  }
  int status;
  MUST(waitpid(child, &status, 0) == child && status == 0);
  free(begun);
  free(kept);
  free(next);
  puts("fine");
  return 0;
}
