/* What holds for the library in any process: threads, signals, descriptors, handles, texts.
 *
 *   rules OPTIONS-AS-JSON
 *
 * The mailbox must have a mail in its inbox, and `since` be `all`. Prints "fine" and nothing else. */
#include <ewsnotify.h>

#include "must.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static ewsn_client *client;
static volatile sig_atomic_t signals;

/* How many entries a folder of /proc/self has; calls `look` for each. */
static int entries(const char *folder, void (*look)(const char *)) {
  DIR *dir = opendir(folder);
  MUST(dir);
  int n = 0;
  for (struct dirent *entry; (entry = readdir(dir));) {
    if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(dir)) continue;
    if (look) look(entry->d_name);
    ++n;
  }
  closedir(dir);
  return n;
}

static int threads(void) { return entries("/proc/self/task", NULL); }

/* A thread of the library's takes no signal. */
static void is_deaf(const char *thread) {
  if (atoi(thread) == getpid()) return;
  char path[64], line[256];
  unsigned long long blocked = 0;
  snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
  FILE *status = fopen(path, "r");
  if (!status) return; /* it has ended */
  int found = 0;
  while (fgets(line, sizeof line, status)) found |= sscanf(line, "SigBlk: %llx", &blocked) == 1;
  fclose(status);
  for (int s = 1; s < 32; ++s) {
    if (s != SIGKILL && s != SIGSTOP) MUST(!found || (blocked >> (s - 1) & 1));
  }
}

static unsigned char inherited[1024];

static void is_inherited(const char *fd) {
  if (atoi(fd) < 1024) inherited[atoi(fd)] = 1;
}

/* A descriptor of the library's does not live on in a program that the host starts. */
static void is_closed_by_exec(const char *fd) {
  if (atoi(fd) >= 1024 || inherited[atoi(fd)]) return;
  int flags = fcntl(atoi(fd), F_GETFD);
  MUST(flags == -1 || (flags & FD_CLOEXEC));
}

static void until(int type) {
  for (;;) {
    ewsn_event *event = NULL;
    MUST(ewsn_next(client, 30000, &event) == EWSN_OK);
    int found = ewsn_event_type(event) == type;
    ewsn_event_free(event);
    if (found) return;
  }
}

static void is_quiet(void) {
  while (ewsn_next_json(client, 500)) {
  }
  MUST(ewsn_last_status() == EWSN_TIMEOUT);
}

static void count_signal(int signal) {
  (void)signal;
  ++signals;
}

static void ignore(void *user, ewsn_client *c, const ewsn_event *event) { (void)user, (void)c, (void)event; }

/* A signal ends each call that waits, also where its handler asks for restarts. */
static void signals_end_waits(void) {
  struct sigaction act = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &act, NULL);
  struct itimerval often = {{0, 50000}, {0, 50000}}, never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &often, NULL);
  ewsn_event *event = NULL;
  MUST(ewsn_next(client, 60000, &event) == EWSN_INTERRUPTED && !event);
  MUST(!ewsn_next_json(client, -1) && ewsn_last_status() == EWSN_INTERRUPTED);
  MUST(ewsn_on_event(client, ignore, NULL, NULL) == EWSN_OK);
  MUST(ewsn_dispatch(client, 60000, 0) == 0 && ewsn_last_status() == EWSN_INTERRUPTED);
  setitimer(ITIMER_REAL, &never, NULL);
  MUST(signals > 0);
}

static void wake(int signal) {
  (void)signal;
  ewsn_wake(client);
}

static void *sends(void *waiting) {
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, NULL);
  (void)waiting;
  kill(getpid(), SIGUSR1); /* only this thread takes it */
  return NULL;
}

/* ewsn_wake in a handler, on another thread than the one that waits. */
static void a_handler_wakes(void) {
  sigset_t all, before;
  struct sigaction act = {.sa_handler = wake};
  sigaction(SIGUSR1, &act, NULL);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int i = 0; i < 100; ++i) {
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, sends, NULL) == 0);
    MUST(!ewsn_next_json(client, 60000) && ewsn_last_status() == EWSN_INTERRUPTED);
    pthread_join(thread, NULL);
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  ewsn_wake(client); /* before the wait */
  MUST(!ewsn_next_json(client, -1) && ewsn_last_status() == EWSN_INTERRUPTED);
}

static void *other_texts(void *mine) {
  const char *text = ewsn_status_json(client);
  MUST(text && text != mine);
  MUST(!ewsn_next_json(NULL, 0) && ewsn_last_status() == EWSN_E_INVALID);
  return NULL;
}

/* What a *_json call gave, and what went wrong, is this thread's, whatever others call. */
static void texts_are_the_threads(void) {
  const char *text = ewsn_status_json(client);
  MUST(text);
  char *copy = strdup(text);
  MUST(ewsn_next(client, 0, NULL) == EWSN_E_INVALID);
  char *error = strdup(ewsn_last_error());
  for (int i = 0; i < 20; ++i) {
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, other_texts, (void *)text) == 0);
    pthread_join(thread, NULL);
  }
  MUST(!strcmp(copy, text) && ewsn_last_status() == EWSN_E_INVALID && !strcmp(error, ewsn_last_error()));
  free(copy), free(error);
}

static void *waits(void *watches) {
  (void)watches;
  ewsn_event *event = NULL;
  ewsn_status status;
  while ((status = ewsn_next(client, -1, &event)) == EWSN_OK) ewsn_event_free(event);
  MUST(status == EWSN_CLOSED || status == EWSN_E_INVALID);
  return NULL;
}

/* A client that comes and goes leaves no descriptor behind, however many handles there are or were. */
static void clients_leave_no_descriptors(void) {
  ewsn_options *many[500];
  for (int i = 0; i < 500; ++i) MUST((many[i] = ewsn_options_new()));
  int before = 0;
  for (int i = 0; i < 100; ++i) {
    ewsn_client *passing = ewsn_open_json(NULL);
    MUST(passing);
    ewsn_free(passing);
    if (i == 0) before = entries("/proc/self/fd", NULL);
    ewsn_options_free(many[i]);
    MUST((many[i] = ewsn_options_new()));
  }
  MUST(entries("/proc/self/fd", NULL) == before);
  for (int i = 0; i < 500; ++i) ewsn_options_free(many[i]);
}

int main(int argc, char **argv) {
  (void)argc;
  entries("/proc/self/fd", is_inherited);
  char version[32];
  snprintf(version, sizeof version, "%d.%d.%d", EWSN_VERSION_MAJOR, EWSN_VERSION_MINOR, EWSN_VERSION_PATCH);
  MUST(!strcmp(version, ewsn_version()));
  MUST(ewsn_abi_check(EWSN_ABI) == EWSN_OK && ewsn_abi_version() == EWSN_ABI);
  MUST(ewsn_abi_check(EWSN_ABI + 1) == EWSN_E_ABI);

  /* Options by key, by number, as JSON. */
  ewsn_options *options = ewsn_options_new(), *own = ewsn_options_new();
  MUST(ewsn_options_set_json(options, argv[1]) == EWSN_OK);
  MUST(ewsn_options_set_int(options, "queue_events", 500) == EWSN_OK);
  MUST(ewsn_options_set(own, "fetch", "summary") == EWSN_OK);
  MUST(threads() == 1); /* none before the first client */
  MUST(ewsn_open(options, &client) == EWSN_OK);
  MUST(threads() > 1);
  uint64_t watch = 0;
  MUST(ewsn_watch(client, own, &watch) == EWSN_OK && watch == 1);
  ewsn_options_free(own);
  ewsn_options_free(options);

  until(EWSN_CONNECTED);
  MUST(threads() > 2);
  entries("/proc/self/task", is_deaf);
  entries("/proc/self/fd", is_closed_by_exec);
  is_quiet();
  signals_end_waits();
  is_quiet();
  a_handler_wakes();
  texts_are_the_threads();
  clients_leave_no_descriptors();

  /* Watches come and go while it runs. */
  MUST(ewsn_unwatch(client, watch) == EWSN_OK && ewsn_unwatch(client, watch) == EWSN_E_INVALID);
  until(EWSN_CLOSED_EVENT);
  watch = ewsn_watch_json(client, "{\"fetch\": \"none\"}");
  MUST(watch == 2);
  ewsn_event *mail = NULL;
  do {
    ewsn_event_free(mail);
    MUST(ewsn_next(client, 30000, &mail) == EWSN_OK);
  } while (ewsn_event_type(mail) != EWSN_NEW_MAIL);
  const char *id = ewsn_event_str(mail, EWSN_F_ITEM_ID), *key = ewsn_event_str(mail, EWSN_F_CHANGE_KEY);
  MUST(id && !ewsn_event_str(mail, EWSN_F_SUBJECT) && ewsn_event_int(mail, EWSN_F_SIZE) == EWSN_NONE);
  uint64_t of[] = {watch, 0}; /* of the watch, and by the client's options */
  for (int i = 0; i < 2; ++i) {
    const char *item = ewsn_get_item_json(client, of[i], id, key);
    MUST(item && strstr(item, "\"subject\":\"Mail 1\""));
  }
  MUST(!ewsn_get_item_json(client, watch, "AAMknobody", NULL) && ewsn_last_status() == EWSN_E_SERVER);
  MUST(ewsn_last_error_code()[0] == 'E');

  /* Closed twice, freed twice, in any order, while another thread waits. */
  ewsn_event *copy = ewsn_event_dup(mail);
  ewsn_event_free(mail);
  MUST(!ewsn_event_json(mail) && ewsn_last_status() == EWSN_E_INVALID);
  pthread_t thread;
  MUST(pthread_create(&thread, NULL, waits, NULL) == 0);
  ewsn_close(client, 2000);
  ewsn_close(client, -1);
  pthread_join(thread, NULL);
  MUST(ewsn_ack(client, 1) < 0 && ewsn_watch_json(client, NULL) == 0 && ewsn_last_status() == EWSN_E_CLOSED);
  ewsn_free(client);
  ewsn_free(client);
  MUST(strstr(ewsn_event_json(copy), "NewMail"));
  ewsn_event_free(copy);
  ewsn_event_free(copy);
  MUST(ewsn_next(client, 0, &copy) == EWSN_E_INVALID);
  puts("fine");
  return 0;
}
