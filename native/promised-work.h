// Work for one of libuv's threads, and the promise that its end settles.
#pragma once

#include <napi.h>

#include <memory>

#include "errors.h"

namespace thaw {

class PromisedWork {
 public:
  virtual ~PromisedWork() = default;

  // `name` is for traces. Undefined, with an exception pending, where nothing can be queued.
  static Napi::Value Queue(Napi::Env env, const char* name, std::unique_ptr<PromisedWork> work);

 protected:
  // On another thread: no JavaScript here. A failure rejects the promise.
  virtual Failure Run() = 0;
  // On JavaScript's thread, without a failure: what the promise resolves to.
  virtual Napi::Value Result(Napi::Env env) { return env.Undefined(); }

 private:
  static void Settle(napi_env raw, napi_status status, void* data);

  Failure failure_;
  napi_deferred deferred_ = nullptr;
  napi_async_work work_ = nullptr;
};

}  // namespace thaw
