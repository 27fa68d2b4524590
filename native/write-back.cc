#include "write-back.h"

#include <errno.h>
#include <fcntl.h>

#include <memory>

#include "args.h"
#include "errors.h"
#include "fd.h"

namespace thaw {
namespace {

struct Piece {
  UniqueFd fd;  // a duplicate: the caller may close its own at any time
  int64_t offset;
  int64_t length;
  Failure failure;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;

  // On a worker: no JavaScript here.
  void Write() {
    // Safe: starts writing what is dirty in the range and waits for it; neither contents nor sizes change.
    if (sync_file_range(fd.get(), offset, length,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) != 0)
      failure = {errno, "sync_file_range", {}, {}};
  }
};

void Settle(napi_env raw, napi_status status, void* data) {
  const Napi::Env env(raw);
  const Napi::HandleScope scope(env);
  const std::unique_ptr<Piece> piece(static_cast<Piece*>(data));
  napi_delete_async_work(env, piece->work);
  if (status == napi_cancelled) piece->failure = {ECANCELED, "", {}, {}};
  if (piece->failure)
    napi_reject_deferred(env, piece->deferred, ToError(env, piece->failure));
  else
    napi_resolve_deferred(env, piece->deferred, env.Undefined());
}

}  // namespace

Napi::Value WriteBack(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  const int fd = args.Fd(0);
  auto piece = std::make_unique<Piece>();
  piece->offset = static_cast<int64_t>(args.Offset(1));
  piece->length = static_cast<int64_t>(args.Offset(2));
  if (!args.ok()) return env.Undefined();
  piece->fd = UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!piece->fd.valid()) return Throw(env, {errno, "fcntl", {}, {}});

  napi_value promise;
  const auto execute = [](napi_env, void* data) { static_cast<Piece*>(data)->Write(); };
  if (napi_create_promise(env, &piece->deferred, &promise) != napi_ok ||
      napi_create_async_work(env, nullptr, Napi::String::New(env, "thaw:write-back"), execute, Settle, piece.get(),
                             &piece->work) != napi_ok ||
      napi_queue_async_work(env, piece->work) != napi_ok) {
    Napi::Error::New(env, "Cannot queue the file for a worker thread").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  piece.release();  // Settle's now
  return Napi::Value(env, promise);
}

}  // namespace thaw
