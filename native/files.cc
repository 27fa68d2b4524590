#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "args.h"
#include "errors.h"
#include "fd.h"

namespace thaw {
namespace {

constexpr size_t kLargest = 1 << 20;

struct Content {
  int error = 0;  // positive errno, or 0
  std::string text;
};

struct Batch {
  std::vector<std::string> paths;
  std::vector<Content> contents;

  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;

  // On a worker: no JavaScript here.
  void Read() {
    std::unique_ptr<char[]> part(new char[kPart]);
    contents.resize(paths.size());
    for (size_t i = 0; i < paths.size(); i++) contents[i].error = ReadOne(paths[i], part.get(), &contents[i].text);
  }

 private:
  static constexpr size_t kPart = 16384;

  static int ReadOne(const std::string& path, char* part, std::string* text) {
    // O_NONBLOCK: a fifo by that name fails to be read instead of stopping the worker.
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (!fd.valid()) return errno;
    for (;;) {
      const ssize_t count = read(fd.get(), part, kPart);
      if (count == 0) return 0;
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return errno;
      if (text->size() + static_cast<size_t>(count) > kLargest) return EFBIG;
      text->append(part, static_cast<size_t>(count));
    }
  }
};

void Settle(napi_env raw, napi_status status, void* data) {
  const Napi::Env env(raw);
  const Napi::HandleScope scope(env);
  const std::unique_ptr<Batch> batch(static_cast<Batch*>(data));
  napi_delete_async_work(env, batch->work);
  if (status == napi_cancelled) {
    napi_reject_deferred(env, batch->deferred, ToError(env, {ECANCELED, "", {}, {}}));
    return;
  }
  Napi::Array results = Napi::Array::New(env, batch->contents.size());
  for (size_t i = 0; i < batch->contents.size(); i++) {
    const Content& content = batch->contents[i];
    if (content.error != 0)
      results.Set(static_cast<uint32_t>(i), Napi::Number::New(env, -content.error));
    else
      results.Set(static_cast<uint32_t>(i), Napi::String::New(env, content.text));
  }
  napi_resolve_deferred(env, batch->deferred, results);
}

}  // namespace

Napi::Value ReadFiles(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  auto batch = std::make_unique<Batch>();
  batch->paths = args.Strings(0);
  if (!args.ok()) return env.Undefined();

  napi_value promise;
  const auto execute = [](napi_env, void* data) { static_cast<Batch*>(data)->Read(); };
  if (napi_create_promise(env, &batch->deferred, &promise) != napi_ok ||
      napi_create_async_work(env, nullptr, Napi::String::New(env, "thaw:files"), execute, Settle, batch.get(),
                             &batch->work) != napi_ok ||
      napi_queue_async_work(env, batch->work) != napi_ok) {
    Napi::Error::New(env, "Cannot queue the files for a worker thread").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  batch.release();  // Settle's now
  return Napi::Value(env, promise);
}

}  // namespace thaw
