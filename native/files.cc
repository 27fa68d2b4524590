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
#include "promised-work.h"

namespace thaw {
namespace {

constexpr size_t kLargest = 1 << 20;

struct Content {
  int error = 0;  // positive errno, or 0
  std::string text;
};

struct Batch : PromisedWork {
  std::vector<std::string> paths;
  std::vector<Content> contents;

  Failure Run() override {
    std::unique_ptr<char[]> part(new char[kPart]);
    contents.resize(paths.size());
    for (size_t i = 0; i < paths.size(); i++) contents[i].error = ReadOne(paths[i], part.get(), &contents[i].text);
    return {};
  }

  Napi::Value Result(Napi::Env env) override {
    Napi::Array results = Napi::Array::New(env, contents.size());
    for (size_t i = 0; i < contents.size(); i++) {
      const Content& content = contents[i];
      if (content.error != 0)
        results.Set(static_cast<uint32_t>(i), Napi::Number::New(env, -content.error));
      else
        results.Set(static_cast<uint32_t>(i), Napi::String::New(env, content.text));
    }
    return results;
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

}  // namespace

Napi::Value ReadFiles(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  auto batch = std::make_unique<Batch>();
  batch->paths = args.Strings(0);
  if (!args.ok()) return env.Undefined();
  return PromisedWork::Queue(env, "thaw:files", std::move(batch));
}

}  // namespace thaw
