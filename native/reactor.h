// A thread that waits with epoll for process exits and relays, so that neither costs the event loop anything until it is
// finished. Started by the first task; a second one, for what may wait for a disk, by the first of those.
#pragma once

#include <napi.h>
#include <pthread.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "errors.h"
#include "fd.h"

namespace thaw {

// What a task has to say, and how that is told to its JavaScript callback.
struct Outcome {
  Failure failure;
  // Exactly one of these describes a success.
  enum class Kind { kExit, kBytes, kText, kDescriptor } kind = Kind::kBytes;
  int code = 0;
  int signal = 0;
  uint64_t bytes = 0;
  std::string text;
  UniqueFd descriptor;  // closes itself unless somebody takes it
  // The task goes on, and may say more.
  bool more = false;
};

// The epoll set as one task sees it.
class Poller {
 public:
  Poller(int epoll, uint64_t id) : epoll_(epoll), id_(id) {}
  // Adds or re-arms; 0 or an errno (EPERM: regular files and the like cannot be waited for).
  int Watch(int fd, uint32_t events, bool* added) const;
  // Has to come before close(2): a child that is between fork and exec still holds the open file, and with it the
  // registration.
  void Forget(int fd, bool* added) const;

 private:
  int epoll_;
  uint64_t id_;
};

// Work of the reactor's thread. All methods but the constructor run there.
class Task {
 public:
  enum class Step {
    kWait,   // runs again when something watched is ready
    kAgain,  // used up its turn: runs again after the others
    kReport,  // *outcome is filled, but the task goes on as with kWait
    kDone,   // *outcome is filled
  };
  virtual ~Task() = default;
  virtual Step Run(const Poller& poller, Outcome* outcome) = 0;
  // Asks the task to end; Run follows and returns kDone.
  virtual void Stop() {}
  // Tells the task that nothing more will come: it may end when it has moved what there is; Run follows.
  virtual void Drain() {}
  // Its system calls may wait for a disk.
  virtual bool MayWaitForDisk() const { return false; }
  // Takes the task's descriptors out of the set; the destructor then closes them.
  virtual void Detach(const Poller& poller) = 0;
};

class Reactor {
 public:
  using Report = void (*)(void* context, uint64_t id, Outcome outcome);

  // `report` is called on the reactor's thread.
  Reactor(Report report, void* context) : report_(report), context_(context) {}
  // Ends the thread and closes every descriptor it owns; nothing is reported any more.
  ~Reactor();

  // `name` is the thread's: 15 bytes at most.
  Failure Start(const char* name);
  void Add(uint64_t id, std::unique_ptr<Task> task);
  void Stop(uint64_t id);
  void Drain(uint64_t id);

 private:
  struct Command {
    enum class Kind { kAdd, kStop, kDrain } kind;
    uint64_t id;
    std::unique_ptr<Task> task;  // of kAdd
  };

  static void* Main(void* self);
  void Loop();
  void Execute(Command command);
  void RunTask(uint64_t id);
  void Post(Command command);
  void Wake();

  const Report report_;
  void* const context_;
  UniqueFd epoll_;
  UniqueFd wake_;
  pthread_t thread_{};
  bool started_ = false;

  std::mutex mutex_;  // guards commands_ and ending_
  std::vector<Command> commands_;
  bool ending_ = false;

  // The thread's own.
  std::unordered_map<uint64_t, std::unique_ptr<Task>> tasks_;
  std::vector<uint64_t> again_;
};

}  // namespace thaw
