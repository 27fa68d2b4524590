// The JavaScript side of the reactor: keeps callbacks, hands tasks over, calls back on the event loop.
#pragma once

#include <napi.h>

#include <memory>
#include <unordered_map>

#include "reactor.h"

namespace thaw {

class Bridge {
 public:
  explicit Bridge(Napi::Env env) : env_(env) {}
  ~Bridge();

  // Gives the task to the reactor (started now if it is the first) and returns its id. On failure an exception is
  // pending, 0 is returned and `task` still owns what it had.
  uint64_t Submit(std::unique_ptr<Task>& task, Napi::Function done);
  void Stop(uint64_t id);
  // Stops a task and calls nobody back any more, also not with what is already on its way.
  void Forget(uint64_t id);
  void Drain(uint64_t id);

  static Bridge& Of(Napi::Env env) { return *env.GetInstanceData<Bridge>(); }

 private:
  bool Start(std::unique_ptr<Reactor>& reactor, const char* name);
  void StopTask(uint64_t id);
  void Remove(std::unordered_map<uint64_t, Napi::FunctionReference>::iterator entry);
  void Finish(uint64_t id, Outcome& outcome);
  void Shutdown();

  static void OnReport(void* self, uint64_t id, Outcome outcome);
  static void OnLoop(napi_env env, napi_value, void* self, void* data);

  Napi::Env env_;
  napi_threadsafe_function to_loop_ = nullptr;
  std::unique_ptr<Reactor> reactor_;
  // For tasks that may wait for a disk: what is stuck there holds up no exit and no other stream. Started by the first.
  std::unique_ptr<Reactor> disk_;
  std::unordered_map<uint64_t, Napi::FunctionReference> callbacks_;
  uint64_t last_id_ = 0;
};

}  // namespace thaw
