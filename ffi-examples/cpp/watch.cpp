// Prints what happens in a mailbox, a JSON line each.
//
//   EWSNOTIFY_OPTIONS='{"url": "mail.example.com", "user": "ada@example.com", "password": "..."}' ./watch [next | dispatch]
//
// With "fetch": "mime" and "spool_dir": "mails" among the options, each message is in a file there, which the line names in mime_path;
// with "state_dir", a restart goes on where this run stood. It ends with 0 by Ctrl-C or SIGTERM, with 2 without options, with 4 when the
// sign-in is refused, and else with 1.
#include <ewsnotify.hpp>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>

static const int retry_ms = 60000;

static ewsn_client *waiting;
static volatile std::sig_atomic_t stopped;

static void stop(int) {
  stopped = 1;
  ewsn_wake(waiting);
}

static bool is(const char *text, const std::string &word) { return text && text == word; }

int main(int argc, char **argv) try {
  const char *options = std::getenv("EWSNOTIFY_OPTIONS");
  if (!options) {
    std::cerr << "usage: EWSNOTIFY_OPTIONS='{\"url\": ...}' " << argv[0] << " [next | dispatch]\n";
    return 2;
  }
  const std::string way = argc > 1 ? argv[1] : "next";

  ewsn::Client client(options);
  waiting = client.get();
  std::signal(SIGINT, stop);
  std::signal(SIGTERM, stop);
  // An event counts as dealt with when `handle` says so.
  client.watch(R"({"ack": "manual"})");

  int given_up = 0;
  auto handle = [&](const ewsn::Event &event) {
    const char *reason = event.text(EWSN_F_REASON);
    // What could not be written is not acknowledged: the next run tells it again.
    if (!(std::cout << event.json() << std::endl)) throw std::runtime_error("standard output cannot be written");
    if (is(event.text(EWSN_F_CONTENT), "unavailable")) {
      // The server or the disk is in trouble: told again later, and its message is asked for anew.
      client.retry(event, retry_ms);
    } else if (event.text(EWSN_F_ITEM_ID)) {
      client.ack(event);
    }
    if (event.type() == EWSN_CLOSED_EVENT && event.watch() != 0 && !is(reason, "closed-by-host")) {
      // The only watch was given up; an Error before it said why. Nothing more would come.
      given_up = is(reason, "sign-in-refused") ? 4 : 1;
      stopped = 1;
    }
  };
  if (way == "dispatch") {
    client.on_event(handle);
    while (!stopped && client.dispatch() != EWSN_E_CLOSED) {
    }
  } else {
    ewsn::Event event;
    while (!stopped && client.next(event) != EWSN_CLOSED) {
      if (event) handle(event);
    }
  }
  client.close();
  return given_up;
} catch (const std::exception &error) {
  std::cerr << error.what() << '\n';
  return 1;
}
