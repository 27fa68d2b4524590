#include "promised-work.h"

#include <errno.h>

namespace thaw {

Napi::Value PromisedWork::Queue(Napi::Env env, const char* name, std::unique_ptr<PromisedWork> work) {
  napi_value promise;
  const auto execute = [](napi_env, void* data) {
    auto* const self = static_cast<PromisedWork*>(data);
    self->failure_ = self->Run();
  };
  if (napi_create_promise(env, &work->deferred_, &promise) != napi_ok ||
      napi_create_async_work(env, nullptr, Napi::String::New(env, name), execute, Settle, work.get(), &work->work_) !=
          napi_ok ||
      napi_queue_async_work(env, work->work_) != napi_ok) {
    Napi::Error::New(env, "Cannot queue work for another thread").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  work.release();  // Settle's now
  return Napi::Value(env, promise);
}

void PromisedWork::Settle(napi_env raw, napi_status status, void* data) {
  const Napi::Env env(raw);
  const Napi::HandleScope scope(env);
  const std::unique_ptr<PromisedWork> done(static_cast<PromisedWork*>(data));
  napi_delete_async_work(env, done->work_);
  if (status == napi_cancelled) done->failure_ = {ECANCELED, "", {}, {}};
  if (done->failure_)
    napi_reject_deferred(env, done->deferred_, ToError(env, done->failure_));
  else
    napi_resolve_deferred(env, done->deferred_, done->Result(env));
}

}  // namespace thaw
