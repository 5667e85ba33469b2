// Prints what happens in a mailbox, a JSON line each, and saves each new message.
//
//   ./watch OPTIONS-AS-JSON [FOLDER-FOR-MESSAGES] [next | dispatch]
//
// Ctrl-C and SIGTERM end it.
#include <ewsnotify.hpp>

#include <csignal>
#include <iostream>
#include <string>

static ewsn_client *waiting;
static volatile std::sig_atomic_t stopped;

static void stop(int) {
  stopped = 1;
  ewsn_wake(waiting);
}

int main(int argc, char **argv) try {
  if (argc < 2) {
    std::cerr << "usage: " << argv[0] << " OPTIONS-AS-JSON [FOLDER] [next | dispatch]\n";
    return 2;
  }
  const std::string options = argv[1];
  const std::string folder = argc > 2 ? argv[2] : "";
  const std::string way = argc > 3 ? argv[3] : "next";
  const bool manual = options.find("\"manual\"") != std::string::npos;

  ewsn::Client client(options);
  waiting = client.get();
  std::signal(SIGINT, stop);
  std::signal(SIGTERM, stop);
  client.watch();

  auto handle = [&](const ewsn::Event &event) {
    const char *id = event.text(EWSN_F_ITEM_ID);
    if (!folder.empty() && event.type() == EWSN_NEW_MAIL) {
      client.save_mime(event.watch(), id, event.text(EWSN_F_CHANGE_KEY), folder + "/" + std::to_string(event.seq()) + ".eml");
    }
    std::cout << event.json() << std::endl;
    if (manual && id) client.ack(event);
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
  return 0;
} catch (const ewsn::Error &error) {
  std::cerr << error.what() << '\n';
  return 1;
}
