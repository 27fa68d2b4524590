// Reads the arguments of one call. The first wrong one throws a TypeError; later reads then give zeros, so a function
// reads all of them and asks ok() once.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

namespace thaw {

struct Bytes {
  const uint8_t* data = nullptr;
  size_t length = 0;
};

class Args {
 public:
  explicit Args(const Napi::CallbackInfo& info) : info_(info) {}

  // An integer from `least` to `most`.
  int64_t Integer(size_t index, int64_t least, int64_t most, const char* what);
  int Fd(size_t index);
  int Pid(size_t index);
  // 32 flag bits; JavaScript's bit operators make the top one negative.
  uint32_t Flags(size_t index);
  bool Boolean(size_t index);
  // Text for the kernel: a NUL inside would cut it silently, so that is refused.
  std::string String(size_t index);
  std::vector<std::string> Strings(size_t index);
  // Descriptors, or -1 where there is none; at most `most` of them.
  std::vector<int> Descriptors(size_t index, size_t most);
  uint64_t Offset(size_t index);
  // A BigUint64Array of whole records of so many numbers.
  std::vector<uint64_t> Numbers(size_t index, size_t record);
  // Points into the JavaScript heap: valid while the value is referenced.
  Bytes Uint8Array(size_t index);
  Napi::Function Function(size_t index);

  bool ok() const { return !failed_; }

 private:
  void Fail(size_t index, const char* expected);
  bool Text(const Napi::Value& value, std::string* out);

  const Napi::CallbackInfo& info_;
  bool failed_ = false;
};

}  // namespace thaw
