// A callback that leaves by an exception: nothing of the library's is left held.
#include <ewsnotify.hpp>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

static int dropped;

static void throws(void *, ewsn_client *, const ewsn_event *event) {
  ewsn_event_free(const_cast<ewsn_event *>(event));  // ours, since we do not return
  throw std::runtime_error("raw");
}

static void drop(void *) { ++dropped; }

struct Guard {
  int *ended;
  ~Guard() { ++*ended; }
};

static void must(bool condition, const char *what) {
  if (condition) return;
  std::fprintf(stderr, "%s: %s\n", what, ewsn_last_error());
  std::exit(1);
}

int main() {
  int ended = 0;
  for (int i = 0; i < 20; ++i) {
    ewsn::Client client(R"({"url": "http://127.0.0.1:1", "user": "u", "password": "p"})");
    client.on_event(throws, nullptr, drop);
    client.watch();
    try {
      Guard guard{&ended};
      client.dispatch(10000, 1);
      must(false, "nothing was thrown");
    } catch (const std::runtime_error &e) {
      must(e.what() == std::string("raw"), "the same exception");
    }
    int calls = 0;
    client.on_event([&](const ewsn::Event &event) {
      must(event.json() != nullptr, "the event is there");
      if (++calls == 1) throw std::logic_error("wrapped");
    });
    client.unwatch(1);
    try {
      while (client.dispatch(10000, 1) > 0) must(calls == 0, "it goes out at once");
      must(false, "nothing was thrown");
    } catch (const std::logic_error &e) {
      must(e.what() == std::string("wrapped"), "the same exception");
    }
    client.close();
    while (client.dispatch(0) != EWSN_E_CLOSED) {
    }
    must(calls > 1, "it goes on");
    try {
      client.watch();
      must(false, "a closed client watches nothing");
    } catch (const ewsn::Error &e) {
      must(e.status() == EWSN_E_CLOSED && *e.what(), "the status");
    }
    try {
      ewsn::Client::push_parse("<html/>");
      must(false, "a page is no notification");
    } catch (const ewsn::Error &e) {
      must(e.status() == EWSN_E_PROTOCOL, "the status of a page");
    }
    try {
      client.push_feed("<html/>");
      must(false, "a page is no notification");
    } catch (const ewsn::Error &e) {
      must(e.status() == EWSN_E_PROTOCOL, "the status of a page");
    }
    ewsn::Client moved(std::move(client));
    must(moved.get() && !client.get(), "moved");
  }
  // One that is replaced, or frees its client, while it runs: what it has captured lives until it returns.
  for (int way = 0; way < 2; ++way) {
    std::shared_ptr<ewsn::Client> client =
        std::make_shared<ewsn::Client>(R"({"url": "http://127.0.0.1:1", "user": "u", "password": "p"})");
    std::shared_ptr<int> captured = std::make_shared<int>(0);
    std::weak_ptr<int> alive = captured;
    int calls = 0;
    client->watch();
    client->on_event([captured, alive, way, &client, &calls](const ewsn::Event &event) {
      std::weak_ptr<int> mine = alive;  // and not what may be gone
      int *called = &calls;
      if (way == 0) client->on_event([](const ewsn::Event &) {});
      else client.reset();
      must(!mine.expired(), "a callback was destroyed while it ran");
      must(event.type() != 0, "the event is there");
      ++*called;
    });
    captured.reset();
    ewsn_dispatch(client->get(), 10000, 1);
    must(calls == 1 && alive.expired(), "called once, and gone then");
  }
  must(ended == 20 && dropped == 20, "all was unwound and dropped");
  std::puts("fine");
}
