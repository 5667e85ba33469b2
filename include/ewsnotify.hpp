// libewsnotify from C++11: RAII over ewsnotify.h, header only.
//
//   ewsn::Client client(R"({"url": "mail.example.com", "user": "ada@example.com", "password": "..."})");
//   client.watch();
//   ewsn::Event event;
//   while (client.next(event) != EWSN_CLOSED) {
//     if (!event) continue;
//     if (event.type() == EWSN_NEW_MAIL) std::cout << event.json() << '\n';
//     if (event.type() == EWSN_CLOSED_EVENT) break;  // the watch was given up; the Error before it says why
//   }
//
// Or with a callback:
//
//   client.on_event([](const ewsn::Event &event) { std::cout << event.json() << '\n'; });
//   while (client.dispatch(1000) != EWSN_E_CLOSED) {}
//
// Errors are thrown as ewsn::Error. A Client may be used from any thread; an Event from one at a time.
#ifndef EWSNOTIFY_HPP
#define EWSNOTIFY_HPP

#include <ewsnotify.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace ewsn {

// What went wrong: the text, the library's status (EWSN_E_...), and the server's own code, if it sent one.
class Error : public std::runtime_error {
 public:
  Error() : std::runtime_error(ewsn_last_error()), status_(ewsn_last_status()), code_(ewsn_last_error_code()) {}
  ewsn_status status() const { return status_; }
  const std::string &code() const { return code_; }

 private:
  ewsn_status status_;
  std::string code_;
};

inline ewsn_status check(ewsn_status status) {
  if (status < 0) throw Error();
  return status;
}

// The sign-in of a user by OAuth: see ewsn_sign_in_begin_json and ewsn_sign_in_finish_json. Both give JSON; ewsn_last_status() tells of
// the second whether the user has signed in (EWSN_OK).
inline std::string sign_in_begin(const std::string &options, const char *redirect = nullptr) {
  const char *text = ewsn_sign_in_begin_json(options.c_str(), redirect);
  if (!text) throw Error();
  return text;
}
inline std::string sign_in_finish(const std::string &options, const std::string &kept, const char *query = nullptr,
                                  int timeout_ms = -1) {
  const char *text = ewsn_sign_in_finish_json(options.c_str(), kept.c_str(), query, timeout_ms);
  if (!text) throw Error();
  return text;
}

// An event, or none.
class Event {
 public:
  Event() : handle_(nullptr) {}
  explicit Event(ewsn_event *handle) : handle_(handle) {}
  Event(Event &&other) noexcept : handle_(other.release()) {}
  Event &operator=(Event &&other) noexcept {
    reset(other.release());
    return *this;
  }
  Event(const Event &) = delete;
  Event &operator=(const Event &) = delete;
  ~Event() { reset(); }

  explicit operator bool() const { return handle_ != nullptr; }
  int type() const { return ewsn_event_type(handle_); }
  uint64_t watch() const { return ewsn_event_watch(handle_); }
  uint64_t seq() const { return ewsn_event_seq(handle_); }
  int64_t time_ms() const { return ewsn_event_time_ms(handle_); }
  // A text field (EWSN_F_...); nullptr where the event has none. It lives as long as the event.
  const char *text(int field) const { return ewsn_event_str(handle_, field); }
  // A number field; EWSN_NONE where the event has none.
  int64_t number(int field) const { return ewsn_event_int(handle_, field); }
  const char *json() const { return ewsn_event_json(handle_); }

  const ewsn_event *get() const { return handle_; }
  ewsn_event *release() noexcept {
    ewsn_event *handle = handle_;
    handle_ = nullptr;
    return handle;
  }
  void reset(ewsn_event *handle = nullptr) noexcept {
    std::swap(handle, handle_);
    ewsn_event_free(handle);
  }

 private:
  ewsn_event *handle_;
};

// A client. Options are JSON objects.
class Client {
 public:
  explicit Client(const std::string &options = "{}") {
    check(ewsn_abi_check(EWSN_ABI));
    handle_ = ewsn_open_json(options.c_str());
    if (!handle_) throw Error();
  }
  // For a host that keeps the state itself: see ewsn_open_with_state_json.
  static Client with_state(const std::string &options, const std::string &state) {
    check(ewsn_abi_check(EWSN_ABI));
    Client client(ewsn_open_with_state_json(options.c_str(), state.c_str()));
    if (!client.handle_) throw Error();
    return client;
  }
  Client(Client &&other) noexcept : handle_(other.handle_) { other.handle_ = nullptr; }
  Client &operator=(Client &&other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  Client(const Client &) = delete;
  Client &operator=(const Client &) = delete;
  // Without close(), as after an exception, the event that came last is told again (ack=auto).
  ~Client() { ewsn_free(handle_); }

  uint64_t watch(const std::string &options = "{}") {
    uint64_t watch = ewsn_watch_json(handle_, options.c_str());
    if (!watch) throw Error();
    return watch;
  }
  void unwatch(uint64_t watch) { check(ewsn_unwatch(handle_, watch)); }

  // EWSN_OK with an event; EWSN_TIMEOUT, EWSN_INTERRUPTED or EWSN_CLOSED with none.
  ewsn_status next(Event &event, int timeout_ms = -1) {
    ewsn_event *found = nullptr;
    ewsn_status status = check(ewsn_next(handle_, timeout_ms, &found));
    event.reset(found);
    return status;
  }
  int fd() const { return check(ewsn_fd(handle_)); }
  void wake() { ewsn_wake(handle_); }

  void ack(const Event &event) { check(ewsn_ack(handle_, event.seq())); }
  void retry(const Event &event, int64_t delay_ms) { check(ewsn_nack(handle_, event.seq(), EWSN_RETRY, delay_ms)); }
  void park(const Event &event) { check(ewsn_nack(handle_, event.seq(), EWSN_PARK, 0)); }
  /// Gives a token for the watches with `auth=host` and this account, as the answer to `EWSN_TOKEN_NEEDED`; `expires_unix_ms` is 0 where
  /// it is not known when it ends.
  void set_token(const std::string &account, const std::string &token, int64_t expires_unix_ms = 0) {
    check(ewsn_set_token(handle_, account.c_str(), token.c_str(), expires_unix_ms, nullptr));
  }
  /// Says that there is no token before somebody signs in: the account's watches end.
  void deny_token(const std::string &account, const std::string &why) {
    check(ewsn_set_token(handle_, account.c_str(), nullptr, 0, why.c_str()));
  }
  std::string parked() { return text(ewsn_parked_json(handle_)); }
  void release(uint64_t id) { check(ewsn_release(handle_, id)); }

  std::string get_item(uint64_t watch, const std::string &id, const char *change_key = nullptr) {
    return text(ewsn_get_item_json(handle_, watch, id.c_str(), change_key));
  }
  void save_mime(uint64_t watch, const std::string &id, const char *change_key, const std::string &path) {
    check(ewsn_save_mime(handle_, watch, id.c_str(), change_key, path.c_str()));
  }
  void save_attachment(uint64_t watch, const std::string &attachment_id, const std::string &path) {
    check(ewsn_save_attachment(handle_, watch, attachment_id.c_str(), path.c_str()));
  }
  // Every request and answer into this file, without secrets; NULL ends it.
  void trace_wire(const char *path) { check(ewsn_trace_wire(handle_, path)); }
  std::string status() { return text(ewsn_status_json(handle_)); }
  // The body of a POST that Exchange sent to the host's own web server: what to answer, as JSON.
  std::string push_feed(const std::string &body) { return text(ewsn_push_feed_json(handle_, body.c_str())); }
  // The same taken apart, without a client.
  static std::string push_parse(const std::string &body) { return text(ewsn_push_parse_json(body.c_str())); }

  void on_event(ewsn_event_fn run, void *user, ewsn_drop_fn drop = nullptr) {
    check(ewsn_on_event(handle_, run, user, drop));
  }
  // Registers what dispatch calls. What it throws comes out of dispatch; with option dispatch=thread it must not throw.
  void on_event(std::function<void(const Event &)> callback) {
    Callback *user = new Callback(std::make_shared<std::function<void(const Event &)>>(std::move(callback)));
    if (ewsn_on_event(handle_, &call, user, &drop) < 0) {
      delete user;
      throw Error();
    }
  }
  // Waits for events and calls what was registered: how many there were, or EWSN_E_CLOSED once none will come any more.
  int dispatch(int timeout_ms = -1, unsigned most = 0) {
    int count = ewsn_dispatch(handle_, timeout_ms, most);
    return count == EWSN_E_CLOSED ? count : check(count);
  }

  void close(int timeout_ms = -1) { check(ewsn_close(handle_, timeout_ms)); }
  ewsn_client *get() const { return handle_; }

 private:
  typedef std::shared_ptr<std::function<void(const Event &)>> Callback;

  explicit Client(ewsn_client *handle) : handle_(handle) {}
  static void call(void *user, ewsn_client *, const ewsn_event *event) {
    // Ours if the callback throws, else the library's.
    Event told(const_cast<ewsn_event *>(event));
    // Kept while it runs: it may register another, or free the client.
    Callback running(*static_cast<Callback *>(user));
    (*running)(told);
    told.release();
  }
  static void drop(void *user) { delete static_cast<Callback *>(user); }
  static std::string text(const char *text) {
    if (!text) throw Error();
    return text;
  }

  ewsn_client *handle_ = nullptr;
};

}  // namespace ewsn

#endif
