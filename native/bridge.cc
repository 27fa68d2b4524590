#include "bridge.h"

#include <utility>

namespace thaw {
namespace {

struct Message {
  uint64_t id;
  Outcome outcome;
};

}  // namespace

Bridge::~Bridge() = default;

bool Bridge::Start(std::unique_ptr<Reactor>& reactor, const char* name) {
  if (reactor) return true;
  if (!to_loop_) {
    const napi_status status = napi_create_threadsafe_function(
        env_, nullptr, nullptr, Napi::String::New(env_, "thaw"), 0, 1, nullptr, nullptr, this, OnLoop, &to_loop_);
    if (status != napi_ok) {
      Napi::Error::New(env_, "Cannot create the callback queue of the native thread").ThrowAsJavaScriptException();
      return false;
    }
    napi_unref_threadsafe_function(env_, to_loop_);
    // Clean-up hooks run in reverse order: this one, added after the queue's own, ends the thread while the queue
    // still exists.
    napi_add_env_cleanup_hook(env_, [](void* self) { static_cast<Bridge*>(self)->Shutdown(); }, this);
  }
  auto started = std::make_unique<Reactor>(OnReport, this);
  if (const Failure failure = started->Start(name)) {
    Throw(env_, failure);
    return false;
  }
  reactor = std::move(started);
  return true;
}

void Bridge::Shutdown() {
  reactor_.reset();
  disk_.reset();
  callbacks_.clear();
  napi_release_threadsafe_function(to_loop_, napi_tsfn_abort);
}

uint64_t Bridge::Submit(std::unique_ptr<Task>& task, Napi::Function done) {
  const bool disk = task->MayWaitForDisk();
  std::unique_ptr<Reactor>& reactor = disk ? disk_ : reactor_;
  if (!Start(reactor, disk ? "thaw-disk" : "thaw-io")) return 0;
  const uint64_t id = ++last_id_;
  // Only pending work keeps the process alive.
  if (callbacks_.empty()) napi_ref_threadsafe_function(env_, to_loop_);
  callbacks_[id] = Napi::Persistent(done);
  reactor->Add(id, std::move(task));
  return id;
}

void Bridge::Stop(uint64_t id) {
  if (callbacks_.count(id)) StopTask(id);
}

void Bridge::StopTask(uint64_t id) {
  // The one that does not have it ignores it.
  if (reactor_) reactor_->Stop(id);
  if (disk_) disk_->Stop(id);
}

void Bridge::Forget(uint64_t id) {
  const auto found = callbacks_.find(id);
  if (found == callbacks_.end()) return;
  StopTask(id);
  Remove(found);
}

void Bridge::Remove(std::unordered_map<uint64_t, Napi::FunctionReference>::iterator entry) {
  callbacks_.erase(entry);
  if (callbacks_.empty()) napi_unref_threadsafe_function(env_, to_loop_);
}

void Bridge::Drain(uint64_t id) {
  if (callbacks_.count(id) == 0) return;
  // The one that does not have it ignores it.
  if (reactor_) reactor_->Drain(id);
  if (disk_) disk_->Drain(id);
}

void Bridge::OnReport(void* self, uint64_t id, Outcome outcome) {
  auto* message = new Message{id, std::move(outcome)};
  // The queue has no bound, so this never blocks the thread. It refuses only when the environment ends.
  if (napi_call_threadsafe_function(static_cast<Bridge*>(self)->to_loop_, message, napi_tsfn_nonblocking) != napi_ok)
    delete message;
}

void Bridge::OnLoop(napi_env env, napi_value, void* self, void* data) {
  const std::unique_ptr<Message> message(static_cast<Message*>(data));
  // No environment: Node is emptying the queue on its way out, and the bridge may be gone.
  if (env) static_cast<Bridge*>(self)->Finish(message->id, message->outcome);
}

void Bridge::Finish(uint64_t id, Outcome& outcome) {
  const auto found = callbacks_.find(id);
  if (found == callbacks_.end()) return;
  const Napi::Function callback = found->second.Value();
  if (!outcome.more) Remove(found);

  const Napi::Value error = outcome.failure ? ToError(env_, outcome.failure) : env_.Null();
  napi_value arguments[2] = {error, env_.Undefined()};
  if (outcome.kind == Outcome::Kind::kBytes) {
    arguments[1] = Napi::BigInt::New(env_, outcome.bytes);
  } else if (outcome.kind == Outcome::Kind::kText) {
    if (!outcome.failure) arguments[1] = Napi::String::New(env_, outcome.text);
  } else if (outcome.kind == Outcome::Kind::kDescriptor) {
    if (!outcome.failure) arguments[1] = Napi::Number::New(env_, outcome.descriptor.release());
  } else if (!outcome.failure) {
    Napi::Object status = Napi::Object::New(env_);
    status.Set("code", outcome.code);
    status.Set("signal", outcome.signal);
    arguments[1] = status;
  }
  if (napi_call_function(env_, env_.Undefined(), callback, 2, arguments, nullptr) != napi_ok) {
    // Left alone, an exception out of a queue callback would become a mere deprecation warning.
    napi_value thrown;
    if (napi_get_and_clear_last_exception(env_, &thrown) == napi_ok) napi_fatal_exception(env_, thrown);
  }
}

}  // namespace thaw
