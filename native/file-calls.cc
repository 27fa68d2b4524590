#include "file-calls.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "args.h"
#include "promised-work.h"

namespace thaw {
namespace {

// Numbers of a call: group, what, index of its path, value.
constexpr size_t kRecord = 4;

enum class What : uint64_t { kMkdir, kChmod, kChown, kRename, kRmdir, kCount };

struct Call {
  uint64_t group;
  What what;
  const std::string* path;
  uint64_t value;
};

struct Batch : PromisedWork {
  std::vector<std::string> paths;
  std::vector<Call> calls;
  // Index of a call that failed, and its positive errno.
  std::vector<std::pair<size_t, int>> failures;

  bool Take(const std::vector<uint64_t>& numbers) {
    for (size_t i = 0; i < numbers.size(); i += kRecord) {
      const uint64_t* const record = &numbers[i];
      if (record[1] >= static_cast<uint64_t>(What::kCount) || record[2] >= paths.size()) return false;
      const auto what = static_cast<What>(record[1]);
      if (what == What::kRename && record[3] >= paths.size()) return false;
      calls.push_back({record[0], what, &paths[record[2]], record[3]});
    }
    return true;
  }

  Failure Run() override {
    for (size_t i = 0; i < calls.size(); i++) {
      // The rest of a group that failed is left out.
      if (!failures.empty() && calls[failures.back().first].group == calls[i].group) continue;
      if (const int error = One(calls[i])) failures.emplace_back(i, error);
    }
    return {};
  }

  Napi::Value Result(Napi::Env env) override {
    Napi::Array found = Napi::Array::New(env, 2 * failures.size());
    for (uint32_t i = 0; i < failures.size(); i++) {
      const auto& [call, error] = failures[i];
      found.Set(2 * i, Napi::Number::New(env, static_cast<double>(call)));
      found.Set(2 * i + 1, Napi::Number::New(env, -error));
    }
    return found;
  }

 private:
  // All of them are of names below a folder that only root can enter, so nobody else can put a link in their way, and each is
  // done or not done: there is nothing to take up again after EINTR.
  int One(const Call& call) const {
    const char* const path = call.path->c_str();
    const auto errno_of = [](int result) { return result == 0 ? 0 : errno; };
    switch (call.what) {
      case What::kMkdir:
        // Fails where the name is taken, also by a link.
        return errno_of(mkdir(path, static_cast<mode_t>(call.value)));
      // Both of what the same group has just made.
      case What::kChmod:
        return errno_of(chmod(path, static_cast<mode_t>(call.value)));
      case What::kChown:
        return errno_of(chown(path, static_cast<uid_t>(call.value), static_cast<gid_t>(call.value >> 32)));
      case What::kRename:
        // Atomic; onto a folder with something in it it fails.
        return errno_of(rename(path, paths[call.value].c_str()));
      case What::kRmdir: {
        // Takes nothing but an empty folder that nothing is mounted on.
        const int error = errno_of(rmdir(path));
        return error == ENOENT ? 0 : error;
      }
      case What::kCount:
        break;
    }
    return ENOSYS;
  }
};

}  // namespace

Napi::Value FileCalls(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  auto batch = std::make_unique<Batch>();
  batch->paths = args.Strings(0);
  const std::vector<uint64_t> numbers = args.Numbers(1, kRecord);
  if (!args.ok()) return env.Undefined();
  if (!batch->Take(numbers)) {
    Napi::TypeError::New(env, "Cannot use argument 2, expected calls of paths in argument 1")
        .ThrowAsJavaScriptException();
    return env.Undefined();
  }
  return PromisedWork::Queue(env, "thaw:file-calls", std::move(batch));
}

}  // namespace thaw
